// expect: out-of-memory deadline
export function run() { const m = new WeakMap(), keys = []; for (;;) { const key = {}; keys.push(key); m.set(key, new Uint8Array(1000)); } }
