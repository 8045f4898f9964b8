// expect: out-of-memory service-failed
export function run() { const b = new ArrayBuffer(8, { maxByteLength: 2 ** 31 }); b.resize(2 ** 31 - 1); return new Uint8Array(b); }
