// expect: out-of-memory deadline
export function run() { return { get a() { const a = []; for (;;) a.push(new Array(100)); } }; }
