// expect: service-failed
export function run() { return Object.setPrototypeOf(new Uint8Array(4), { get length() { throw new Error("no"); } }).length; }
