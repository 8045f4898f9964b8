// expect: deadline out-of-memory
export function run() { const s = "é".repeat(4e6), t = "e\u0301".repeat(4e6); for (;;) s.localeCompare(t); }
