// expect: out-of-memory service-failed
export function run(input) { let b = input.buffer; for (;;) b = b.transfer(b.byteLength * 2 + 1); }
