// expect: service-failed out-of-memory deadline
export function run() { const a = []; a.push(a); return a.flat(Infinity).length; }
