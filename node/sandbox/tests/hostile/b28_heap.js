// expect: out-of-memory deadline
export function run() { const a = []; for (;;) a.push({ x: 1 }); }
