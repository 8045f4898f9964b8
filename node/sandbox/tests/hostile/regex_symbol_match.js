// expect: soft-deadline
export function run() { return "x".match({ [Symbol.match]() { for (;;) {} } }); }
