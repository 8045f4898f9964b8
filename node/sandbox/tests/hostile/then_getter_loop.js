// expect: soft-deadline
export async function run() { return { get then() { for (;;) {} } }; }
