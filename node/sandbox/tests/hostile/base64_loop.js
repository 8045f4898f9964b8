// expect: deadline out-of-memory
export function run() { const s = "x".repeat(1e7); for (;;) atob(btoa(s)); }
