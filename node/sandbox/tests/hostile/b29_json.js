// expect: service-failed
export function run() { return JSON.parse("[".repeat(100000) + "]".repeat(100000)); }
