// expect: deadline
export function run() { return /^(?=(a+)+$)b/.test("a".repeat(40) + "!"); }
