// expect: service-failed output
export function run(input) { return new Proxy(input, {}); }
