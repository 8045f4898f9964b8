// expect: service-failed
export function run() { const o = { toString() { return `${o}`; } }; return `${o}`; }
