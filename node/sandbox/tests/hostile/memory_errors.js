// expect: out-of-memory deadline
export function run() { const a = []; const f = (n) => (n ? f(n - 1) : new Error("x".repeat(1000))); for (;;) a.push(f(50)); }
