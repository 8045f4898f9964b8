// expect: deadline out-of-memory
export function run() { return new Array(4e9).reverse().length; }
