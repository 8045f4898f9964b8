// expect: soft-deadline
// asks: net
export async function run() { await fetch("http://e.org/never"); return "answered"; }
