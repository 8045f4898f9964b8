// expect: output
export function run(input, ctx) { const a = [input, ctx]; a.push(a); ctx.log.warn(a, globalThis, Symbol("x"), 1n, null); return "logged"; }
