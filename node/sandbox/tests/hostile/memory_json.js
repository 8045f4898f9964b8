// expect: out-of-memory deadline service-failed
export function run() { let s = "[1]"; for (;;) s = JSON.stringify([s, s]); }
