// expect: service-failed output
export function run(input, ctx) { const o = { toJSON() { ctx.log.info(o); return ""; } }; ctx.log.info(o); return "logged"; }
