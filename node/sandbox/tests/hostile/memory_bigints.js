// expect: out-of-memory deadline
export function run() { const a = []; for (let n = 1n; ; n++) a.push(n << 10000n); }
