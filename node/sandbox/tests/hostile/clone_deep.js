// expect: service-failed
export function run() { let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return structuredClone(a).length; }
