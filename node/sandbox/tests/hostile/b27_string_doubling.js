// expect: out-of-memory service-failed
export function run() { let s = "x"; for (;;) s += s + Math.random(); }
