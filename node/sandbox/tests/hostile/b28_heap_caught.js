// expect: deadline out-of-memory
export function run() { let a = []; for (;;) try { for (;;) a.push(new Uint8Array(1e6)); } catch {} }
