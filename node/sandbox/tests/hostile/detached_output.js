// expect: service-failed
export function run(input) { structuredClone; input.buffer.transfer(); return input; }
