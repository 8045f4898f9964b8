// expect: soft-deadline service-failed
export function run() { const p = new Proxy({}, { getPrototypeOf: () => p }); return p instanceof Array; }
