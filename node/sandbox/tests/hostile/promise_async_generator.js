// expect: soft-deadline
export async function run() { for await (const n of (async function* () { for (let n = 0; ; n++) yield n; })()) if (n < 0) return n; }
