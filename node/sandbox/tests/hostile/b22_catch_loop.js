// expect: soft-deadline
export function run() { for (;;) try { for (;;) {} } catch {} finally { for (;;) {} } }
