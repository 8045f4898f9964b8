// expect: deadline out-of-memory
export function run() { const s = "ü".repeat(2e6); for (;;) encodeURIComponent(s); }
