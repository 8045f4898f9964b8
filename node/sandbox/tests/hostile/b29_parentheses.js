// expect: service-failed
export function run() { return eval("(".repeat(100000) + "1" + ")".repeat(100000)); }
