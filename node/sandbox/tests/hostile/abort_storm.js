// expect: deadline out-of-memory
export function run() { const c = new AbortController(); for (;;) c.signal.addEventListener("abort", () => {}); }
