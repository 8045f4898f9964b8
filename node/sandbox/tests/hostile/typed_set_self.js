// expect: deadline
export function run() { const a = new Float64Array(3e6); for (;;) a.set(a.subarray(1)); }
