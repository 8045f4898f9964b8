// expect: service-failed
import "./a.js"; export const run = () => 1;
// module: a.js
export const = ((((
