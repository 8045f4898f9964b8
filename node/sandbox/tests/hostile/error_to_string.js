// expect: deadline
export function run() { throw { toString() { for (;;) {} } }; }
