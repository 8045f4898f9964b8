// expect: out-of-memory
export function run() { for (let i = 0; i < 4000; i++) { const held = new Uint8Array(1e6).fill(i); setTimeout(() => held, 1e6); } return new Promise(() => {}); }
