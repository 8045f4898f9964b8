// expect: service-failed out-of-memory
export function run() { const o = { toJSON: () => ({ o: { toJSON: o.toJSON } }) }; return o; }
