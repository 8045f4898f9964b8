// expect: service-failed
export function run() { const f = () => Reflect.apply(f, null, []); return f(); }
