// expect: service-failed
export function run() { return Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); }
