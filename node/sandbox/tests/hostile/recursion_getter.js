// expect: service-failed
export function run() { return { get a() { return this.a; } }.a; }
