// expect: deadline
export function run() { for (;;) new URL("http://e.org/" + "ü%".repeat(1e5)); }
