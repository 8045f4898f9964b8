// expect: service-failed
// asks: image
export function run(input, ctx) { const b = new ArrayBuffer(16, { maxByteLength: 1e6 }); return ctx.image.encode({ data: new Uint8Array(b), get width() { b.resize(0); return 2; }, height: 2 }); }
