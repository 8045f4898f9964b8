// expect: service-failed out-of-memory deadline
export function run() { let C = class {}; for (let i = 0; i < 1e5; i++) C = class extends C {}; return new C(); }
