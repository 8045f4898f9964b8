// expect: deadline out-of-memory
export function run() { const a = [2, 1]; a.length = 2 ** 32 - 1; return a.sort().length; }
