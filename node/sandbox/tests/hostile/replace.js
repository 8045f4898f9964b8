// expect: deadline out-of-memory
export function run() { for (;;) "a".repeat(3e6).replace(/a/g, "$&$&"); }
