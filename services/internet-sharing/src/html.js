// A page as a row of pieces: tags that can be changed, and everything between them, which stays byte for byte.
// It is read as browsers read it where that matters here: comments, quotes, and elements whose content is no markup.

import { readable, utf8 } from "./bytes.js";

const NAMED = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };
const RAW = new Set(["script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"]);
const NAME = /[a-z][^\s/>\0]*/iy;
const ATTRIBUTE = /[\s/]*([^\s/>=][^\s/>=]*)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>"'][^\s>]*)?))?/y;

/** A value as it is meant: without its entities. */
const decoded = (text) =>
  readable(
    text.replace(/&(?:#x([0-9a-f]{1,6})|#([0-9]{1,7})|([a-z]+));?/gi, (all, hex, number, name) => {
      if (name) return NAMED[name.toLowerCase()] ? utf8(NAMED[name.toLowerCase()]) : all;
      const code = hex ? parseInt(hex, 16) : parseInt(number, 10);
      return code > 0 && code <= 0x10ffff ? utf8(String.fromCodePoint(code)) : "";
    }),
  );

/** A value as it may stand between double quotes. */
const encoded = (text) => utf8(text).replace(/&/g, "&amp;").replace(/"/g, "&quot;");

/** A start tag. */
class Tag {
  constructor(name, attributes, source) {
    this.name = name;
    this.attributes = attributes;
    this.source = source;
    this.changed = false;
    this.removed = false;
    /** Content of an element whose content is no markup, and its end tag. */
    this.content = null;
    this.end = "";
  }

  has(name) {
    return this.attributes.some((attribute) => attribute.name === name);
  }

  get(name) {
    const found = this.attributes.find((attribute) => attribute.name === name);
    return found && (found.value === null ? "" : decoded(found.value));
  }

  set(name, value) {
    const found = this.attributes.find((attribute) => attribute.name === name);
    if (found) found.value = encoded(value);
    this.changed = true;
  }

  drop(matches) {
    const kept = this.attributes.filter((attribute) => !matches(attribute.name));
    if (kept.length === this.attributes.length) return;
    this.attributes = kept;
    this.changed = true;
  }

  remove() {
    this.removed = true;
  }

  toString() {
    if (this.removed) return "";
    const content = this.content === null ? "" : this.content + this.end;
    if (!this.changed) return this.source + content;
    const values = this.attributes.map(({ written, value }) => (value === null ? written : `${written}="${value}"`));
    // In a drawing, an element that is closed at once has no end tag.
    const close = this.source.endsWith("/>") ? " />" : ">";
    return `<${[this.name, ...values].join(" ")}${close}${content}`;
  }
}

/** The attributes from `at` on, and where the tag ends. */
function attributesAt(html, at) {
  const attributes = [];
  for (;;) {
    ATTRIBUTE.lastIndex = at;
    const match = ATTRIBUTE.exec(html);
    if (!match) break;
    const [, written, double, single, bare] = match;
    const name = written.toLowerCase();
    const value = double ?? (single === undefined ? bare : single.replace(/"/g, "&quot;")) ?? null;
    // The first of two attributes of a name counts.
    if (!attributes.some((attribute) => attribute.name === name)) attributes.push({ name, written, value });
    at = ATTRIBUTE.lastIndex;
  }
  const close = html.indexOf(">", at);
  return { attributes, end: close < 0 ? html.length : close + 1 };
}

/** Splits a page (as binary text) into pieces: strings, and tags. */
export function parseHtml(html) {
  const pieces = [];
  let at = 0;
  let plain = 0;
  const flush = (to) => {
    if (to > plain) pieces.push(html.slice(plain, to));
  };
  for (;;) {
    const open = html.indexOf("<", at);
    if (open < 0) break;
    if (html.startsWith("<!--", open)) {
      const close = html.indexOf("-->", open + 4);
      at = close < 0 ? html.length : close + 3;
      continue;
    }
    NAME.lastIndex = open + 1;
    const name = NAME.exec(html)?.[0].toLowerCase();
    if (!name) {
      // An end tag, a declaration, or a stray sign.
      const isMarkup = /[!?/]/.test(html[open + 1] ?? "");
      const close = isMarkup ? html.indexOf(">", open) : open;
      at = close < 0 ? html.length : close + 1;
      continue;
    }
    flush(open);
    const { attributes, end } = attributesAt(html, NAME.lastIndex);
    const tag = new Tag(name, attributes, html.slice(open, end));
    at = end;
    if (RAW.has(name)) {
      const close = new RegExp(`</${name}(?=[\\s/>])`, "gi");
      close.lastIndex = end;
      const found = close.exec(html);
      const from = found ? found.index : html.length;
      const over = html.indexOf(">", from);
      at = !found ? html.length : over < 0 ? html.length : over + 1;
      tag.content = html.slice(end, from);
      tag.end = html.slice(from, at);
    }
    pieces.push(tag);
    plain = at;
  }
  flush(html.length);
  return pieces;
}

/** The candidates of a `srcset`: `{address, density}`. */
export function parseSrcset(text) {
  const found = [];
  // An address may hold commas; one at its end ends the candidate.
  const candidate = /[\s,]*(\S*[^\s,])(?:,|\s*((?:\([^)]*\)|[^,(])*)(?:,|$))/gy;
  for (;;) {
    const match = candidate.exec(text);
    if (!match || match[0] === "") break;
    found.push({ address: match[1], density: (match[2] ?? "").trim() });
  }
  return found;
}

/** The reverse. */
export const writeSrcset = (candidates) =>
  candidates.map(({ address, density }) => (density ? `${address} ${density}` : address)).join(", ");
