// expect: out-of-memory deadline
// asks: net
export async function run() { const all = []; for (;;) all.push(await (await fetch("http://e.org/big9000000")).bytes()); }
