// expect: deadline out-of-memory
export function run() { return Array.prototype.copyWithin.call({ length: 2 ** 50 }, 1, 0).length; }
