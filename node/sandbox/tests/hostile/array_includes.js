// expect: deadline
export function run() { return [].includes.call({ length: 2 ** 53 - 1 }, 1); }
