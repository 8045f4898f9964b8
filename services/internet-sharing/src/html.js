// A page as a row of pieces: tags that can be changed, and everything between them, which stays byte for byte.
// It is cut as the HTML standard's tokenizer cuts it, so that nothing hides from us that a browser would see.

import { readable, utf8 } from "./bytes.js";

/** Pieces of one page; what comes behind them is one piece. A book of a page has 100 000. */
const PIECES = 150_000;
/** Attributes of one tag; more are not looked at. */
const ATTRIBUTES = 500;

const NAMED = {
  amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", colon: ":", sol: "/", tab: "\t", newline: "\n",
};
const RAW = new Set(["script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"]);
const LETTER = /[a-z]/i;
// One character each, so that every search goes over a text once.
const NO_SPACE = /[^\t\n\f\r ]/g;
const NO_GAP = /[^\t\n\f\r /]/g;
const TAG_NAME_END = /[\t\n\f\r />]/g;
const NAME_END = /[\t\n\f\r />=]/g;
const BARE_END = /[\t\n\f\r >]/g;

/** Where `pattern`, of one character, is found from `at` on; the text's end if it is not. */
function find(pattern, text, at) {
  pattern.lastIndex = at;
  return pattern.test(text) ? pattern.lastIndex - 1 : text.length;
}

/** A value as it is meant: without its entities. */
const decoded = (text) =>
  readable(
    text.replace(/&(?:#x([0-9a-f]+);?|#([0-9]+);?|([a-z]+)(;|(?!=)))/gi, (all, hex, number, name) => {
      if (name) return Object.hasOwn(NAMED, name.toLowerCase()) ? utf8(NAMED[name.toLowerCase()]) : all;
      const code = hex ? parseInt(hex, 16) : parseInt(number, 10);
      return code > 0 && code <= 0x10ffff ? utf8(String.fromCodePoint(code)) : "";
    }),
  );

/** Source of a value as it may stand between double quotes. */
const quotable = (source) => source.replace(/"/g, "&quot;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

/** A value as it may stand between double quotes. */
const encoded = (text) => quotable(utf8(text).replace(/&/g, "&amp;"));

/** What is no start tag: `text`, `comment` (and all that a browser takes for one), `doctype`, `end`, `rest`. */
class Piece {
  constructor(kind, source, name = "") {
    this.kind = kind;
    this.source = source;
    this.name = name;
  }

  toString() {
    return this.source;
  }
}

/** A start tag. */
class Tag {
  kind = "tag";
  changed = false;
  removed = false;
  /** Content of an element whose content is no markup, and its end tag. */
  content = null;
  end = "";

  constructor(name, attributes, source) {
    this.name = name;
    this.attributes = attributes;
    this.source = source;
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
    else this.attributes.push({ name, written: name, value: encoded(value) });
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
    const values = this.attributes.map(({ written, value }) =>
      value === null ? written : `${written}="${quotable(value)}"`,
    );
    // In a drawing, an element that is closed at once has no end tag.
    const close = this.source.endsWith("/>") ? " />" : ">";
    return `<${[this.name, ...values].join(" ")}${close}${content}`;
  }
}

/** The attributes from `at` on, and where the tag ends; null if it does not. */
function attributesAt(html, at) {
  const found = new Map();
  for (;;) {
    at = find(NO_GAP, html, at);
    if (at >= html.length) return null;
    if (html[at] === ">") return { attributes: [...found.values()], end: at + 1 };
    // A name may begin with "=".
    const nameEnd = find(NAME_END, html, at + 1);
    const written = html.slice(at, nameEnd);
    let value = null;
    at = find(NO_SPACE, html, nameEnd);
    if (html[at] === "=") {
      at = find(NO_SPACE, html, at + 1);
      const isQuoted = html[at] === '"' || html[at] === "'";
      const end = isQuoted ? html.indexOf(html[at], at + 1) : find(BARE_END, html, at);
      if (end < 0) return null;
      value = html.slice(isQuoted ? at + 1 : at, end);
      at = isQuoted ? end + 1 : end;
    }
    const name = written.toLowerCase();
    // The first of two attributes of a name counts.
    if (found.size < ATTRIBUTES && !found.has(name)) found.set(name, { name, written, value });
  }
}

/** Where a comment at `open` ends: `<!-->` is a whole one, and `--!>` ends one too. */
function commentEnd(html, open) {
  if (html.startsWith(">", open + 4)) return open + 5;
  if (html.startsWith("->", open + 4)) return open + 6;
  const close = /--!?>/g;
  close.lastIndex = open + 4;
  return close.test(html) ? close.lastIndex : html.length;
}

/** Where a script's end tag begins: `<!-- <script>` in it hides one. -1 if there is none. */
function scriptEnd(html, from) {
  const token = /<!--|-->|<\/?script(?=[\t\n\f\r />])/gi;
  token.lastIndex = from;
  let isEscaped = false;
  let isInner = false;
  for (let match = token.exec(html); match; match = token.exec(html)) {
    const what = match[0].toLowerCase();
    if (what === "<!--") {
      isEscaped = true;
      // Its own two signs may end it.
      token.lastIndex = match.index + 2;
    } else if (what === "-->") {
      isEscaped = isInner = false;
    } else if (what === "<script") {
      isInner ||= isEscaped;
    } else if (isInner) {
      isInner = false;
    } else {
      return match.index;
    }
  }
  return -1;
}

/** Where the content of an element ends whose content is no markup, and where its end tag does. */
function rawEnd(html, name, from) {
  let open;
  if (name === "script") {
    open = scriptEnd(html, from);
  } else {
    const close = new RegExp(`</${name}(?=[\\t\\n\\f\\r />])`, "gi");
    close.lastIndex = from;
    open = close.exec(html)?.index ?? -1;
  }
  if (open < 0) return { open: html.length, end: html.length };
  return { open, end: attributesAt(html, open + 2 + name.length)?.end ?? html.length };
}

/** Splits a page (as binary text) into pieces. Their sources in a row are the page. */
export function parseHtml(html) {
  const pieces = [];
  let at = 0;
  let plain = 0;
  const put = (from, to, piece) => {
    if (from > plain) pieces.push(new Piece("text", html.slice(plain, from)));
    if (piece) pieces.push(piece);
    at = plain = to;
  };
  const putPiece = (kind, from, to, name) => put(from, to, new Piece(kind, html.slice(from, to), name));
  for (;;) {
    const open = html.indexOf("<", at);
    if (open < 0) break;
    if (pieces.length >= PIECES) {
      putPiece("rest", open, html.length);
      break;
    }
    const sign = html[open + 1] ?? "";
    const nameAt = sign === "/" ? open + 2 : open + 1;
    if (LETTER.test(html[nameAt] ?? "")) {
      const nameEnd = find(TAG_NAME_END, html, nameAt);
      const name = html.slice(nameAt, nameEnd).toLowerCase();
      const read = attributesAt(html, nameEnd);
      if (!read) {
        // The page ends inside a tag, which browsers leave out.
        putPiece("comment", open, html.length);
      } else if (sign === "/") {
        putPiece("end", open, read.end, name);
      } else {
        const tag = new Tag(name, read.attributes, html.slice(open, read.end));
        let end = read.end;
        if (RAW.has(name)) {
          const raw = rawEnd(html, name, end);
          tag.content = html.slice(end, raw.open);
          tag.end = html.slice(raw.open, raw.end);
          end = raw.end;
        }
        put(open, end, tag);
      }
    } else if (html.startsWith("<!--", open)) {
      putPiece("comment", open, commentEnd(html, open));
    } else if (sign === "!" || sign === "?" || sign === "/") {
      const close = html.indexOf(">", open + 2);
      const end = close < 0 ? html.length : close + 1;
      putPiece(/^<!doctype/i.test(html.slice(open, open + 9)) ? "doctype" : "comment", open, end);
    } else {
      at = open + 1;
    }
  }
  put(html.length, html.length);
  return pieces;
}
