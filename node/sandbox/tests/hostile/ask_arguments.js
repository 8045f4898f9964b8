// expect: soft-deadline
// asks: gps
export async function run(input, ctx) { return ctx.gps.position({ maxAge: { toJSON() { for (;;) {} } } }); }
