// expect: service-failed
export function run() { return new URL("http://e.org/" + "a".repeat(2e6)).href; }
