// expect: output service-failed
// asks: net
export async function run() { const b = new ArrayBuffer(1000, { maxByteLength: 1e6 }); const r = fetch("http://e.org/x", { method: "POST", get body() { b.resize(0); return new Uint8Array(b); } }); b.resize(1e6); b.transfer(); return (await r).status; }
