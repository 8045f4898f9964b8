// expect: service-failed
// asks: net
export async function run() { return fetch("http://e.org", { method: "POST", body: "x".repeat(1e7) }); }
