// expect: deadline
Error.prepareStackTrace = () => { for (;;) {} };
export function run() { null.x; }
