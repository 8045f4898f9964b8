// expect: out-of-memory service-failed
export function run() { const all = [], b = new Uint8Array(1e7); for (;;) all.push(structuredClone(b)); }
