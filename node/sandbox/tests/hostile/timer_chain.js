// expect: soft-deadline
export function run() { const again = () => setTimeout(again, 0); again(); return new Promise(() => {}); }
