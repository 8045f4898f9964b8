// expect: soft-deadline
export function run() { for (let i = 0; i < 4000; i++) setInterval(() => {}, 0); return new Promise(() => {}); }
