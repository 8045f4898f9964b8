// expect: service-failed
export function run() { Object.prototype.get = () => { throw new Error("mine"); }; return new URL("http://e.org").href; }
