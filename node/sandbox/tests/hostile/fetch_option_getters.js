// expect: soft-deadline
// asks: net
export async function run() { return fetch("http://e.org/x", { get signal() { for (;;) {} } }); }
