// expect: output service-failed deadline
export function run() { Function.prototype.call = Function.prototype.apply = () => { for (;;) {} }; return new Promise((done) => setTimeout(done, 1, "called")); }
