// expect: soft-deadline
export function run() { return new Promise((done) => setTimeout(done, 2 ** 53)); }
