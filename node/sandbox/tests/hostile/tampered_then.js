// expect: output
// asks: net
export async function run() { Promise.prototype.then = () => { for (;;) {} }; await null; const page = await fetch("http://e.org/x"); return await page.text(); }
