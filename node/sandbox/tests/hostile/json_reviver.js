// expect: soft-deadline out-of-memory
export function run() { return JSON.parse("[1]", function (key, value) { if (Array.isArray(this)) this.push(1); for (;;) value = [value]; }); }
