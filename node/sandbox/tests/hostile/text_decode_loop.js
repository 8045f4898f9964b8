// expect: deadline out-of-memory
export function run() { const b = new Uint8Array(5e6).fill(0xff); for (;;) new TextDecoder().decode(b); }
