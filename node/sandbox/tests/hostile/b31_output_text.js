// expect: output-too-large out-of-memory deadline
export function run() { return "x".repeat(20e6); }
