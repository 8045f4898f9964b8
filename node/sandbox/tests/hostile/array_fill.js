// expect: deadline out-of-memory
export function run() { return new Array(2 ** 32 - 1).fill(0).length; }
