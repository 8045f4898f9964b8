// expect: deadline
export function run() { return Array.prototype.unshift.call({ length: 2 ** 50 }, 1); }
