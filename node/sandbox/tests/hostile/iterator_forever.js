// expect: soft-deadline
export function run() { return Array.from({ [Symbol.iterator]: () => ({ next: () => ({ value: undefined, done: false }) }) }).length; }
