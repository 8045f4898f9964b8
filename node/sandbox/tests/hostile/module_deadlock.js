// expect: service-failed
import "./a.js"; export const run = () => 1;
// module: a.js
export const b = await import("./b.js");
// module: b.js
export const a = await import("./a.js");
