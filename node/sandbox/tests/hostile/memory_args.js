// expect: service-failed out-of-memory
export function run() { return Math.max(...new Array(1e7).fill(1)); }
