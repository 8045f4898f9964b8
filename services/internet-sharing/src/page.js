// A page, and what it is made of: which addresses it needs, and how it reads with them taken in.

import { base64, binary, fromBinary, utf8 } from "./bytes.js";
import { clean, POLICY } from "./clean.js";
import { addressesIn, rewriteCss } from "./css.js";
import { parseHtml } from "./html.js";
import { parseSrcset, writeSrcset } from "./srcset.js";
import { absolute, absoluteWithPart, partOf } from "./urls.js";

/** Attributes that hold one address of something shown. */
const SHOWN = {
  audio: ["src"], body: ["background"], embed: ["src"], image: ["href", "xlink:href"], img: ["src"], input: ["src"],
  source: ["src"], table: ["background"], td: ["background"], th: ["background"], track: ["src"],
  video: ["src", "poster"],
};
/** Attributes that lead elsewhere: made absolute, never taken in. */
const LEADING = {
  a: ["href"], area: ["href"], blockquote: ["cite"], button: ["formaction"], form: ["action"], frame: ["src"],
  iframe: ["src"], input: ["formaction"], object: ["data"], q: ["cite"], use: ["href", "xlink:href"],
};
/** Links that only prepare what is taken in anyway, and would reach for the network. */
const PREPARING = /^(?:preload|prefetch|modulepreload|preconnect|dns-prefetch|prerender|manifest)$/;

const relations = (tag) => (tag.get("rel") ?? "").toLowerCase().split(/\s+/);
const isStylesheet = (tag) => tag.name === "link" && relations(tag).includes("stylesheet") && tag.has("href");
const isIcon = (tag) =>
  tag.name === "link" && relations(tag).some((rel) => rel === "icon" || rel.startsWith("apple-touch-icon"));

/** Types of whole pages: none of them is a picture, a letter or a script, whatever the page that names it says. */
const DOCUMENT = /^(?:text\/html|application\/xhtml\+xml|(?:text|application)\/xml)(?:;|$)/;

/**
 * A page's bytes as binary text, and what is known of its letters. What has two bytes for each letter becomes UTF-8: no
 * tag could be found in it.
 */
export function textOf(bytes, charset) {
  const [first, second, third] = bytes;
  if (first === 0xef && second === 0xbb && third === 0xbf) return { text: binary(bytes.subarray(3)), charset: "utf-8" };
  const isMarked = (first === 0xfe && second === 0xff) || (first === 0xff && second === 0xfe);
  if (!isMarked && !/^(?:utf-?16|ucs-2|iso-10646-ucs-2|unicode)/i.test(charset ?? "")) {
    return { text: binary(bytes), charset };
  }
  const isBig = isMarked ? first === 0xfe : /be$/i.test(charset);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const texts = [];
  for (let at = isMarked ? 2 : 0; at + 1 < bytes.length; ) {
    const units = [];
    for (; units.length < 4096 && at + 1 < bytes.length; at += 2) units.push(view.getUint16(at, !isBig));
    texts.push(String.fromCharCode(...units));
  }
  return { text: utf8(texts.join("")), charset: "utf-8" };
}

/** Where relative addresses of a page start, which `<base>` may say. */
export function baseOf(pieces, address) {
  const tag = pieces.find((piece) => piece.kind === "tag" && piece.name === "base" && piece.has("href"));
  return (tag && absolute(tag.get("href"), address)) ?? address;
}

/** What a page shows, in its order: `{address, isStyle}`, absolute. */
export function neededBy(pieces, base, scripts) {
  if (!scripts) clean(pieces, base);
  const needed = [];
  const add = (text, isStyle = false) => {
    const address = text && absolute(text, base);
    if (address) needed.push({ address, isStyle });
  };
  const inCss = (css) => addressesIn(css).forEach(({ address, isImport }) => add(address, isImport));
  for (const tag of pieces) {
    if (tag.kind !== "tag" || tag.removed) continue;
    if (isStylesheet(tag)) add(tag.get("href"), true);
    else if (isIcon(tag)) add(tag.get("href"));
    if (tag.name === "script") add(tag.get("src"));
    if (tag.name === "style") inCss(tag.content);
    if (tag.has("style")) inCss(utf8(tag.get("style")));
    for (const name of SHOWN[tag.name] ?? []) if (tag.has(name)) add(tag.get(name));
    if (tag.has("srcset")) parseSrcset(tag.get("srcset")).forEach(({ address }) => add(address));
  }
  return needed;
}

/** Sheets in sheets deeper than this are left where they are. */
const DEPTH = 4;
/** Characters of data in one file: a picture that is used a thousand times is written a thousand times. */
const ROOM = 32 * 1024 * 1024;
/** Of those, characters of style sheets, with all that is in them. */
const SHEETS = 8 * 1024 * 1024;
/** Places of one page that something is put into, however small; those behind them stay as they are. */
const PLACES = 20_000;

/**
 * A page as one file. `got` maps absolute addresses to `{type, bytes}`; `at` is where the page was found, `charset`
 * what its server said its letters are; `more` is how many resources are missing beside those in `notes`.
 */
export function rebuild(bytes, { at, charset: said, got, scripts, notes, more }) {
  const { text: html, charset } = textOf(bytes, said);
  const pieces = parseHtml(html);
  const base = baseOf(pieces, at);
  if (!scripts) clean(pieces, base);
  if (pieces.at(-1)?.kind === "rest") {
    notes.push({ address: at, why: scripts ? "its end is as it came: too many tags" : "its end is cut off: too many tags" });
  }
  const written = new Map();
  const inside = [];
  const noted = new Set(notes.map((note) => note.address));
  // What the file still takes, and what is kept for it: sheets that import each other double with each of them.
  let room = ROOM;
  let keep = ROOM;
  let sheets = SHEETS;
  let places = PLACES;

  const leave = (address, why) => {
    if (!noted.has(address)) notes.push({ address, why });
    noted.add(address);
  };

  /** An address as the file has it: its bytes, or the absolute address of what was not to be had. */
  const taken = (text, from, depth = 0) => {
    if (places-- <= 0) return null;
    const address = absolute(text, from);
    if (!address) return null;
    const found = got.get(address);
    const data = found && embedded(address, found, depth);
    if (!data) return absoluteWithPart(text, from);
    if (data.length > room) {
      leave(address, "the file is full");
      return absoluteWithPart(text, from);
    }
    room -= data.length;
    return data + partOf(text, from);
  };

  /** A resource as a `data:` address; null if it stays outside. */
  const embedded = (address, found, depth) => {
    if (written.has(address)) return written.get(address);
    if (DOCUMENT.test(found.type)) {
      leave(address, `it is ${found.type}, a page of its own`);
      return null;
    }
    const isStyle = found.type.startsWith("text/css");
    // A sheet that imports itself, or a tower of sheets.
    if (isStyle && (depth > DEPTH || inside.includes(address))) return null;
    let { bytes } = found;
    if (isStyle) {
      const before = room;
      room = Math.min(room, sheets);
      inside.push(address);
      bytes = style(binary(bytes), address, depth + 1);
      inside.pop();
      // It counts where it is put, with all that is in it.
      room = before;
    }
    // Known before it is written: what does not fit must not take the memory either.
    const length = Math.ceil(bytes.length / 3) * 4;
    if (length > (isStyle ? Math.min(keep, sheets) : keep)) {
      leave(address, "the file is full");
      written.set(address, null);
      return null;
    }
    keep -= length;
    if (isStyle) sheets -= length;
    if (isStyle) bytes = fromBinary(bytes);
    const data = `data:${found.type};base64,${base64(bytes)}`;
    written.set(address, data);
    return data;
  };

  const style = (css, from, depth) => rewriteCss(css, (text) => taken(text, from, depth));

  const replace = (tag, name, value) => value !== null && value !== undefined && tag.set(name, value);

  for (const tag of pieces) {
    if (tag.kind !== "tag" || tag.removed) continue;
    const equivalent = tag.name === "meta" ? (tag.get("http-equiv") ?? "").trim().toLowerCase() : "";
    // Addresses are absolute now; a policy or a jump to the live page would undo the file.
    if (tag.name === "base" || /^(?:content-security-policy.*|refresh)$/.test(equivalent)) {
      tag.remove();
      continue;
    }
    if (tag.name === "link") {
      if (relations(tag).some((rel) => PREPARING.test(rel)) && !isStylesheet(tag)) {
        tag.remove();
        continue;
      }
      if (tag.has("href")) {
        const isTaken = isStylesheet(tag) || isIcon(tag);
        replace(tag, "href", isTaken ? taken(tag.get("href"), base) : absoluteWithPart(tag.get("href"), base));
      }
    }
    if (tag.name === "script" && tag.has("src")) replace(tag, "src", taken(tag.get("src"), base));
    // The fingerprint of a sheet does not fit the sheet with its pictures in it.
    if (tag.name === "link" || tag.name === "script") tag.drop((name) => name === "integrity");
    if (tag.name === "style" && tag.content.trim()) tag.content = style(tag.content, base, 0);
    if (tag.has("style")) {
      const before = utf8(tag.get("style"));
      const after = style(before, base, 0);
      if (after !== before) tag.set("style", fromUtf8(after));
    }
    for (const name of SHOWN[tag.name] ?? []) if (tag.has(name)) replace(tag, name, taken(tag.get(name), base));
    for (const name of LEADING[tag.name] ?? []) {
      if (tag.has(name)) replace(tag, name, absoluteWithPart(tag.get(name), base));
    }
    if (tag.has("srcset")) {
      const all = parseSrcset(tag.get("srcset"));
      // Offline, a browser must not choose a picture that is not there while another one is.
      const there = all.filter(({ address }) => got.has(absolute(address, base)));
      const kept = there.length > 0 || (tag.name === "img" && got.has(absolute(tag.get("src") ?? "", base))) ? there : all;
      const candidates = kept.map(({ address, density }) => ({ address: taken(address, base) ?? address, density }));
      if (candidates.length > 0) tag.set("srcset", writeSrcset(candidates));
      else tag.drop((name) => name === "srcset");
    }
  }
  return withHead(pieces, noteOf(at, notes, more), charsetTag(html, charset), scripts ? "" : POLICY);
}

/** Binary text of UTF-8 as text. */
const fromUtf8 = (text) => new TextDecoder().decode(fromBinary(text));

/** What the server said about letters is not in the file, unless the page says it too. */
function charsetTag(html, charset) {
  if (!charset || /<meta[^>]+charset/i.test(html.slice(0, 2048))) return "";
  return `<meta charset="${charset}">`;
}

function noteOf(at, notes, more) {
  const safe = (text) => utf8(text).replace(/-(?=-)/g, "- ").replace(/[<>]/g, "");
  const lines = notes.map(({ address, why }) => `  ${safe(address)}: ${safe(why)}`);
  if (more > 0) lines.push(`  and ${more} more`);
  const missing = lines.length > 0 ? `\nNot taken in:\n${lines.join("\n")}\n` : " ";
  return `<!-- ${safe(at)} in one file, made by internet-sharing.${missing}-->`;
}

/**
 * The page with the note behind the document's type (before it, browsers would read the page as one of the nineties), the
 * policy there too, where it is the first thing in the head, and the letters' name where the head begins.
 */
function withHead(pieces, note, charset, policy) {
  const isBlank = (piece) => piece.kind === "comment" || (piece.kind === "text" && /^[\t\n\f\r ]*$/.test(piece.source));
  let type = 0;
  while (type < pieces.length && isBlank(pieces[type])) type += 1;
  type = pieces[type]?.kind === "doctype" ? type + 1 : 0;
  let head = type;
  for (const name of ["html", "head"]) {
    let next = head;
    while (next < pieces.length && isBlank(pieces[next])) next += 1;
    if (pieces[next]?.kind === "tag" && pieces[next].name === name) head = next + 1;
  }
  const before = pieces.slice(0, type).join("");
  const opened = pieces.slice(type, head).join("");
  return `${before}${before ? "\n" : ""}${note}${policy}${opened}${charset}${pieces.slice(head).join("")}`;
}
