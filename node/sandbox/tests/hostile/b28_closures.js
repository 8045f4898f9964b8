// expect: out-of-memory deadline
export function run() { let f = () => 0; for (;;) { const g = f; f = () => g; } }
