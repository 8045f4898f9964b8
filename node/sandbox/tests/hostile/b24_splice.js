// expect: deadline out-of-memory
export function run() { const a = []; a.length = 4e9; a.splice(0, 1); return a.length; }
