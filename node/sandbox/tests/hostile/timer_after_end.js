// expect: output
export function run() { setInterval(() => { for (;;) {} }, 1); return "done"; }
