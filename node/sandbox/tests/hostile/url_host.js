// expect: deadline
export function run() { for (;;) URL.canParse("http://" + "ü.".repeat(1e5) + "org"); }
