// expect: deadline
export function run() { const s = "1".repeat(2e7); for (;;) Date.parse(s); }
