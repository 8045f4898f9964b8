// expect: soft-deadline
export function run() { const line = "x".repeat(1e5); for (;;) console.log(line); }
