// expect: out-of-memory service-failed deadline
export function run() { const f = (...all) => f(...all, ...all); return f(1); }
