// expect: soft-deadline
const forever = async () => { for (;;) await null; };
await forever();
export function run() { return 1; }
