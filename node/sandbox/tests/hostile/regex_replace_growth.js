// expect: deadline out-of-memory service-failed
export function run() { let s = "ab"; for (;;) s = s.replace(/./g, "$`$&$'"); }
