// expect: soft-deadline out-of-memory
export async function run() { for (let i = 0; ; i++) await import(`./x${i}.js`).catch(() => {}); }
