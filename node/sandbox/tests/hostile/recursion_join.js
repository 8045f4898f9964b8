// expect: service-failed
export function run() { let a = [1]; for (let i = 0; i < 1e5; i++) a = [a]; return a.join(); }
