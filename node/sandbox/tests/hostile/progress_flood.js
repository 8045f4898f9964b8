// expect: soft-deadline
export function run(input, ctx) { for (let n = 0; ; n++) ctx.progress(n / 1e6); }
