// expect: deadline out-of-memory service-failed
export function run() { return Array.from({ length: 2 ** 32 - 1 }).length; }
