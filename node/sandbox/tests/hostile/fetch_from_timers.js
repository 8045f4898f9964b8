// expect: soft-deadline service-failed
// asks: gps
export function run(input, ctx) { setInterval(() => ctx.gps.position().then(() => { for (let i = 0; i < 1e5; i++); }), 1); return new Promise(() => {}); }
