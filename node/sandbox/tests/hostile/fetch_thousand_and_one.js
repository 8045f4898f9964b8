// expect: service-failed
// asks: net
export async function run() { return Promise.all(Array.from({ length: 1001 }, () => fetch("http://e.org/x"))); }
