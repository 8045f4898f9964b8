// expect: soft-deadline
export function run() { return new URL({ toString() { for (;;) {} } }).href; }
