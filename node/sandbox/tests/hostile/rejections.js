// expect: deadline out-of-memory
export async function run() { for (;;) { Promise.reject(new Error("x")); await null; } }
