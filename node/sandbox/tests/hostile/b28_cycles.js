// expect: soft-deadline
export function run() { for (;;) { const a = {}; a.a = a; a.b = new Array(1000).fill(a); } }
