// expect: out-of-memory deadline
export function run() { const o = {}; for (let i = 0; ; i++) o["name" + i] = i; }
