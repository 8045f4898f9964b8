// expect: out-of-memory deadline
export function run(input) { const a = []; for (;;) a.push(new Uint8Array(input.buffer)); }
