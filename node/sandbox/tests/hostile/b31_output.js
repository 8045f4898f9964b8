// expect: output-too-large deadline
export function run() { return new Uint8Array(40e6); }
