// expect: deadline
export function run() { return /^(a+)+$/.test("a".repeat(32) + "b"); }
