// expect: out-of-memory deadline
export function run() { const a = []; for (;;) a.push(new Promise((done) => a.push(done))); }
