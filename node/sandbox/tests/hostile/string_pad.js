// expect: deadline out-of-memory service-failed
export function run() { const a = []; for (;;) a.push("x".padEnd(2 ** 22 + a.length, "yz")); }
