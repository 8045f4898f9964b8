// expect: soft-deadline
export function run() { const v = new DataView(new ArrayBuffer(8)); for (let i = 0; ; i = (i + 1) % 8) v.setUint8(i, 1); }
