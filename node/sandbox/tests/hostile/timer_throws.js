// expect: service-failed
export function run() { setTimeout(() => { throw new Error("late"); }, 1); return new Promise(() => {}); }
