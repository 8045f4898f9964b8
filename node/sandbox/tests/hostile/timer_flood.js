// expect: service-failed
export function run() { for (;;) setTimeout(() => {}, 1e6); }
