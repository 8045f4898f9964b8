// expect: out-of-memory deadline
import { eat } from "./a.js"; export const run = () => eat();
// module: a.js
const a = []; export const eat = () => { for (;;) a.push([a]); };
