// Addresses in style sheets: url() and @import, found beside comments and strings that only look like them.

import { readable, utf8 } from "./bytes.js";

const STRING = /"(?:\\[\s\S]|[^"\\\n])*"|'(?:\\[\s\S]|[^'\\\n])*'/.source;
const ADDRESS = `url\\(\\s*(?:${STRING}|(?:\\\\[\\s\\S]|[^)\\s"'\\\\])*)\\s*\\)`;
const TOKENS = new RegExp(
  [
    "/\\*[\\s\\S]*?(?:\\*/|$)", // a comment
    "@namespace\\b[^;]*;", // names, not addresses
    `(@import\\s+)(${ADDRESS}|${STRING})`,
    `(${ADDRESS})`,
    STRING,
  ].join("|"),
  "gi",
);

/** What stands in `url(…)` or in quotes. */
function inner(token) {
  let text = /^url\(/i.test(token) ? token.slice(4, -1).trim() : token;
  if (/^["']/.test(text)) text = text.slice(1, -1);
  const unescaped = text.replace(/\\(?:([0-9a-f]{1,6})\s?|([\s\S]))/gi, (_, hex, one) => {
    if (!hex) return one === "\n" ? "" : one;
    const code = parseInt(hex, 16);
    return code > 0 && code <= 0x10ffff ? utf8(String.fromCodePoint(code)) : "";
  });
  return readable(unescaped);
}

/**
 * Replaces addresses in a style sheet (as binary text). `replace(address, isImport)` gives the new address, or null to
 * leave the place as it is.
 */
export function rewriteCss(css, replace) {
  return css.replace(TOKENS, (all, at, imported, used) => {
    const token = imported ?? used;
    if (token === undefined) return all;
    const address = inner(token);
    if (/^\s*(?:data:|#|$)/i.test(address)) return all;
    const changed = replace(address, imported !== undefined);
    if (changed === null) return all;
    const quoted = `url("${utf8(changed).replace(/["\\\n\r]/g, (c) => encodeURIComponent(c))}")`;
    return (at ?? "") + quoted;
  });
}

/** The addresses in a style sheet: `{address, isImport}`. */
export function addressesIn(css) {
  const found = [];
  rewriteCss(css, (address, isImport) => {
    found.push({ address, isImport });
    return null;
  });
  return found;
}
