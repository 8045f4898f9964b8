// expect: soft-deadline
export function run() { return { toJSON() { for (;;) {} } }; }
