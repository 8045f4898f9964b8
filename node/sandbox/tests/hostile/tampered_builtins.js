// expect: service-failed deadline
for (const name of Object.getOwnPropertyNames(globalThis)) try { globalThis[name] = () => { throw new Error(name); }; } catch {}
Object.prototype.then = () => {}; Uint8Array = null;
export async function run() { return { a: 1 }; }
