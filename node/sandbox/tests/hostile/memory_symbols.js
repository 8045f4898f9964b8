// expect: out-of-memory deadline
export function run() { for (let i = 0; ; i++) Symbol.for("symbol" + i); }
