// expect: deadline service-failed out-of-memory
export function run() { return /^(a*)*\1b$/.test("a".repeat(40)); }
