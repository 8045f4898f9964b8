// expect: service-failed out-of-memory deadline
export function run() { Error.stackTraceLimit = Infinity; const f = (n) => (n ? f(n - 1) : new Error()); const a = []; for (;;) a.push(f(500).stack); }
