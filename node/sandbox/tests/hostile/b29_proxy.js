// expect: service-failed
export function run() { let p = {}; for (let i = 0; i < 100000; i++) p = new Proxy(p, {}); return p.x; }
