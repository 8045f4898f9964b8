// expect: soft-deadline
export function run(input, ctx) { ctx.log.info({ get x() { for (;;) {} } }); return ""; }
