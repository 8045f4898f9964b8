// expect: soft-deadline
import "./a.js"; export const run = () => 1;
// module: a.js
for (;;) await null;
