// expect: deadline service-failed out-of-memory
export function run() { return new RegExp("(?:(?:a{1,1000}){1,1000}){1,1000}b").test("a".repeat(3000)); }
