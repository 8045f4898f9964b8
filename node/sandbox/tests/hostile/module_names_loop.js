// expect: soft-deadline
export async function run() { return import({ toString() { for (;;) {} } }); }
