// expect: service-failed deadline
export function run(input, ctx) { Error.prepareStackTrace = () => { throw Error.prepareStackTrace; }; return ctx.image.decode(input); }
