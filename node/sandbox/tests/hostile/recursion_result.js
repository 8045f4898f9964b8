// expect: service-failed
export function run() { const make = () => ({ get a() { return make(); } }); return make(); }
