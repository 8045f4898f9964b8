// expect: soft-deadline
export function run(input, ctx) { ctx.progress({ valueOf() { for (;;) {} } }); return ""; }
