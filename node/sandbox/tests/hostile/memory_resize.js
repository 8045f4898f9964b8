// expect: out-of-memory service-failed
export function run() { const a = []; for (;;) { const b = new ArrayBuffer(0, { maxByteLength: 1e7 }); b.resize(1e7); a.push(b); } }
