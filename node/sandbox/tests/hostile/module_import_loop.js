// expect: soft-deadline
export async function run() { for (;;) await import("./m.js"); }
// module: m.js
export const n = 1;
