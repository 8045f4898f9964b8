// expect: service-failed out-of-memory deadline
export function run() { const make = () => Object.defineProperty({}, "a", { get: make, enumerable: true }); return structuredClone(make()); }
