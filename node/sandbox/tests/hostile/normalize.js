// expect: deadline out-of-memory service-failed
export function run() { const s = "\u0344".repeat(4e6); for (;;) s.normalize("NFD"); }
