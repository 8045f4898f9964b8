// expect: out-of-memory deadline
export function run() { const a = []; function* g() { const held = new Array(1000).fill(0); yield held; } for (;;) { const it = g(); it.next(); a.push(it); } }
