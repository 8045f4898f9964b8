// expect: out-of-memory service-failed
export function run() { const a = []; for (;;) a.push(new SharedArrayBuffer(1e7)); }
