// expect: soft-deadline
export async function run(input, ctx) { ctx.signal.onabort = () => {}; for (;;) await new Promise((done) => setTimeout(done, 1)); }
