// expect: deadline out-of-memory service-failed
export function run() { return [].concat({ length: 2 ** 52, [Symbol.isConcatSpreadable]: true }).length; }
