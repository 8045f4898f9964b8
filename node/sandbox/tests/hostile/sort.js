// expect: soft-deadline
export function run() { return new Array(1e5).fill(0).map((_, i) => i).sort(() => { for (;;) {} }); }
