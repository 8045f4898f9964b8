// expect: deadline
export function run() { const s = "a".repeat(3e7); for (;;) s.lastIndexOf("a".repeat(1e5) + "b"); }
