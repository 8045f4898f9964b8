// expect: soft-deadline
export function run() { const c = new AbortController(); c.signal.onabort = () => { for (;;) {} }; c.abort(); return ""; }
