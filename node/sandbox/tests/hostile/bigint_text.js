// expect: deadline out-of-memory service-failed
export function run() { return (2n ** 8000000n).toString(); }
