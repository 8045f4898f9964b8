// expect: deadline out-of-memory
export function run() { const a = new Float64Array(4e6); for (;;) { for (let i = 0; i < a.length; i += 1000) a[i] = -i; a.sort(); } }
