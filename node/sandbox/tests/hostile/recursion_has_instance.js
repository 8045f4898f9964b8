// expect: service-failed
export function run() { const o = { [Symbol.hasInstance]: (x) => x instanceof o }; return 1 instanceof o; }
