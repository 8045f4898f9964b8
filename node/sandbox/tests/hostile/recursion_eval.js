// expect: service-failed
export function run() { const f = () => eval("f()"); return f(); }
