// expect: service-failed
export function run() { const f = (n) => f(n + 1) + 1; return f(0); }
