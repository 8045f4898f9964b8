// expect: out-of-memory deadline
export function run() { const s = new Set(); for (let i = 0; ; i++) s.add("x" + i); }
