// expect: deadline out-of-memory
export function run() { const m = new Map([[0, 0]]); m.set("x", { get a() { for (let i = 0; ; i++) m.set(i, i); } }); return structuredClone(m).size; }
