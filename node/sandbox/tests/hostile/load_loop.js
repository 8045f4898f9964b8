// expect: soft-deadline
for (;;) {}
export function run() { return 1; }
