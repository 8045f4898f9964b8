// expect: service-failed out-of-memory deadline
export async function run() { const f = async (n) => (await f(n + 1)) + 1; return f(0); }
