// expect: deadline out-of-memory service-failed
export function run() { const u = new URL("http://e.org"); for (;;) u.searchParams.append("a".repeat(1e4), "&"); }
