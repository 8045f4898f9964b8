// expect: deadline out-of-memory
export async function run() { const next = () => Promise.resolve().then(next); return next(); }
