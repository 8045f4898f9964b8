// expect: output service-failed
export function run() { Map.prototype.get = Map.prototype.set = Map.prototype.has = null; return structuredClone({ a: [1] }); }
