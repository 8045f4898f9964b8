// expect: deadline out-of-memory
export async function run() { for (;;) await Promise.all(new Array(1e5).fill(0).map(async () => 1)); }
