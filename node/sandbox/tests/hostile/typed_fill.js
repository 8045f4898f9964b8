// expect: deadline
export function run() { const a = new Uint8Array(3e7); for (;;) a.fill(1); }
