// expect: service-failed
export function run(input, ctx) { "use strict"; ctx.log.info = ctx.params.x = 1; }
