// expect: out-of-memory deadline
export function run() { const a = []; for (let i = 0; ; i++) a.push(new Function("x", "return " + "x + ".repeat(500) + i)); }
