// expect: out-of-memory deadline
export function run() { const m = new Map(); for (let i = 0; ; i++) m.set(i, m); }
