// expect: service-failed
export function run() { const p = new Proxy({}, { get: (_, name) => p[name] }); return p.x; }
