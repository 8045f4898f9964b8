// expect: soft-deadline
export function run() { const p = new Proxy({}, { ownKeys: () => Array.from({ length: 1000 }, (_, i) => "k" + i) }); for (;;) Object.keys(p); }
