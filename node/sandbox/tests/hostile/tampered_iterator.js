// expect: deadline out-of-memory
export function run() { Array.prototype[Symbol.iterator] = function* () { for (;;) yield this; }; return new URLSearchParams([["a", "b"]]).toString(); }
