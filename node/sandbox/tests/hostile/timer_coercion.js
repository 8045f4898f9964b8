// expect: soft-deadline
export function run() { setTimeout(() => {}, { valueOf() { for (;;) {} } }); return ""; }
