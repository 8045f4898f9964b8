// expect: output
export function run() { const more = () => { Promise.resolve().then(more); }; more(); return "left"; }
