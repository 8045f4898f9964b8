// expect: service-failed out-of-memory
export function run() { function* g() { yield* g(); } return [...g()].length; }
