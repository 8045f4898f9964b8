// expect: output
// asks: gps
export async function run(input, ctx) { JSON.parse = JSON.stringify = () => { for (;;) {} }; return { lat: (await ctx.gps.position()).lat }; }
