// expect: deadline out-of-memory
// asks: net
export async function run() { for (let i = 0; ; i++) fetch("http://e.org/" + i).catch(() => {}); }
