// expect: deadline out-of-memory
export function run() { const s = "a".repeat(1e6); for (;;) s.split(""); }
