// expect: deadline out-of-memory service-failed output-too-large
export function run() { let a = 1; for (let i = 0; i < 900; i++) a = [a, 1]; const s = []; for (;;) s.push(JSON.stringify(a, null, 10)); }
