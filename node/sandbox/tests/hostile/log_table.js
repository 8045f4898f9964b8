// expect: deadline out-of-memory output service-failed
export function run() { console.table(new Array(1e6).fill({ a: 1 })); return ""; }
