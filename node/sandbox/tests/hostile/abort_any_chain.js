// expect: service-failed out-of-memory deadline output
export function run() { const c = new AbortController(); let s = c.signal; for (let i = 0; i < 1e5; i++) s = AbortSignal.any([s]); c.abort(); return "" + s.aborted; }
