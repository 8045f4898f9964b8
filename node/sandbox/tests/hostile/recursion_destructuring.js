// expect: service-failed
export function run() { const f = ({ a = f({}) }) => a; return f({}); }
