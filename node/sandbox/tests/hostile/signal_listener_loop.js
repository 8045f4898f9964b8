// expect: soft-deadline
export async function run(input, ctx) { await new Promise((done) => { ctx.signal.onabort = () => { for (;;) {} }; }); }
