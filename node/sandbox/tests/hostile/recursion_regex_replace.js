// expect: service-failed
export function run() { const f = () => "a".replace(/a/, f); return f(); }
