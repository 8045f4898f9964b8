// expect: deadline out-of-memory service-failed
export function run() { let a = 3n; for (;;) a = a * a; }
