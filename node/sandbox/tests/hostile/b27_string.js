// expect: deadline out-of-memory service-failed
export function run() { return new Array(1e9) + ""; }
