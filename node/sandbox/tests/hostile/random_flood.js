// expect: deadline
// asks: random
export function run() { const a = new Uint8Array(65536); for (;;) crypto.getRandomValues(a); }
