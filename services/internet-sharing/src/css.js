// Addresses in style sheets: url() and @import, found beside comments and strings that only look like them.

import { readable, utf8 } from "./bytes.js";

/** Addresses of one sheet; those behind them are left as they are. */
const ADDRESSES = 5000;
/** Where something begins that holds an address, or hides one. */
const START = /\/\*|["']|@import(?=["'\s/])|@namespace\b|\burl\(/gi;
const STOPS = { '"': /["\\\n]/g, "'": /['\\\n]/g, bare: /[)\s"'(\\]/g };

/** Where a string or a bare address that begins at `at` stops. */
function stopOf(kind, css, at) {
  const stop = STOPS[kind];
  for (stop.lastIndex = at; stop.test(css); ) {
    const found = stop.lastIndex - 1;
    if (css[found] !== "\\") return found;
    stop.lastIndex = found + 2;
  }
  return css.length;
}

function skipSpace(css, at) {
  const space = /\s*/y;
  space.lastIndex = at;
  space.test(css);
  return space.lastIndex;
}

/** The string at `at`: what is in it, and where it ends; without `text` if it has no end. */
function stringAt(css, at) {
  const close = stopOf(css[at], css, at + 1);
  return css[close] === css[at] ? { text: css.slice(at + 1, close), end: close + 1 } : { end: close };
}

/** The same for what `url(` opened before `at`. */
function urlAt(css, at) {
  at = skipSpace(css, at);
  const isString = css[at] === '"' || css[at] === "'";
  const bare = isString ? 0 : stopOf("bare", css, at);
  const { text, end } = isString ? stringAt(css, at) : { text: css.slice(at, bare), end: bare };
  const close = skipSpace(css, end);
  if (text !== undefined && css[close] === ")") return { text, end: close + 1 };
  return { end: Math.max(end, close) };
}

/** What a string or an address means, without its backslashes. */
function meant(text) {
  const unescaped = text.replace(/\\(?:([0-9a-f]{1,6})\s?|([\s\S]))/gi, (_, hex, one) => {
    if (!hex) return one === "\n" ? "" : one;
    const code = parseInt(hex, 16);
    return code > 0 && code <= 0x10ffff ? utf8(String.fromCodePoint(code)) : "";
  });
  return readable(unescaped);
}

/** The end of what begins at `at` and stops with `sign`. */
function behind(css, sign, at) {
  const found = css.indexOf(sign, at);
  return found < 0 ? css.length : found + sign.length;
}

/**
 * Replaces addresses in a style sheet (as binary text). `replace(address, isImport)` gives the new address, or null to
 * leave the place as it is. It goes over the sheet once, whatever stands in it.
 */
export function rewriteCss(css, replace) {
  const out = [];
  let copied = 0;
  let count = 0;
  START.lastIndex = 0;
  for (let match = START.exec(css); match && count < ADDRESSES; match = START.exec(css)) {
    const token = match[0].toLowerCase();
    let from = match.index;
    let read;
    if (token === "/*") read = { end: behind(css, "*/", from + 2) };
    else if (token === "@namespace") read = { end: behind(css, ";", from) };
    else if (token === "url(") read = urlAt(css, from + 4);
    else if (token !== "@import") read = { end: stringAt(css, from).end };
    else {
      from = skipSpace(css, from + token.length);
      const isUrl = css.slice(from, from + 4).toLowerCase() === "url(";
      if (isUrl) read = urlAt(css, from + 4);
      else read = /["']/.test(css[from] ?? "") ? stringAt(css, from) : { end: from };
    }
    const end = read.end;
    const last = START.lastIndex;
    if (read.text !== undefined) {
      count += 1;
      const address = meant(read.text);
      // `replace` may read another sheet meanwhile.
      const changed = /^\s*(?:data:|#|$)/i.test(address) ? null : replace(address, token === "@import");
      if (changed !== null) {
        // "<" could end the element that the sheet stands in.
        const safe = utf8(changed).replace(/["\\\n\r\f<]/g, (sign) => encodeURIComponent(sign));
        out.push(css.slice(copied, from), `url("${safe}")`);
        copied = end;
      }
    }
    START.lastIndex = Math.max(end, last);
  }
  out.push(css.slice(copied));
  return out.join("");
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
