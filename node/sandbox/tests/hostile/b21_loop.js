// expect: soft-deadline
export function run() { while (true) {} }
