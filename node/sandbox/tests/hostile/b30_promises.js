// expect: soft-deadline
export function run() { const next = () => { Promise.resolve().then(next); }; next(); return new Promise(() => {}); }
