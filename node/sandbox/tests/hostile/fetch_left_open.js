// expect: output
// asks: net
export function run() { for (let i = 0; i < 100; i++) fetch("http://e.org/never"); return "left"; }
