// expect: soft-deadline
export async function run() { for (;;) await null; }
