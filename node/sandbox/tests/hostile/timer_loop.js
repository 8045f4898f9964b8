// expect: soft-deadline
export function run() { setTimeout(() => { for (;;) {} }, 1); return new Promise(() => {}); }
