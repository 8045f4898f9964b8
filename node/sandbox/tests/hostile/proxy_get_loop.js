// expect: soft-deadline
export function run() { return new Proxy({}, { get() { for (;;) {} } }); }
