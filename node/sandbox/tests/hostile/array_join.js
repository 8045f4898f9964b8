// expect: deadline out-of-memory service-failed
export function run() { return new Array(2 ** 32 - 1).join("abc").length; }
