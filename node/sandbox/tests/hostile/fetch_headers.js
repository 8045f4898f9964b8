// expect: service-failed out-of-memory deadline
// asks: net
export async function run() { return fetch("http://e.org", { headers: (function* () { for (let i = 0; ; i++) yield ["name" + i, i]; })() }); }
