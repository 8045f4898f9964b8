// expect: deadline out-of-memory service-failed
export function run() { const a = []; a.length = 2 ** 32 - 1; return structuredClone([a, a.concat(1)]).length; }
