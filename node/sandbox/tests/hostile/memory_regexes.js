// expect: out-of-memory deadline
export function run() { const a = []; for (let i = 0; ; i++) a.push(new RegExp("(?:" + "a|".repeat(500) + i + ")")); }
