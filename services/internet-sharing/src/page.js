// A page, and what it is made of: which addresses it needs, and how it reads with them taken in.

import { base64, binary, fromBinary, utf8 } from "./bytes.js";
import { addressesIn, rewriteCss } from "./css.js";
import { parseHtml, parseSrcset, writeSrcset } from "./html.js";
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

/** Where relative addresses of a page start, which `<base>` may say. */
export function baseOf(pieces, address) {
  const tag = pieces.find((piece) => piece.name === "base" && piece.has("href"));
  return (tag && absolute(tag.get("href"), address)) ?? address;
}

/** What a page shows, in its order: `{address, isStyle}`, absolute. */
export function neededBy(pieces, base, { scripts }) {
  const needed = [];
  const add = (text, isStyle = false) => {
    const address = text && absolute(text, base);
    if (address) needed.push({ address, isStyle });
  };
  const inCss = (css) => addressesIn(css).forEach(({ address, isImport }) => add(address, isImport));
  for (const tag of pieces) {
    if (typeof tag === "string") continue;
    if (isStylesheet(tag)) add(tag.get("href"), true);
    else if (isIcon(tag)) add(tag.get("href"));
    if (tag.name === "script" && scripts) add(tag.get("src"));
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

/**
 * A page as one file. `got` maps absolute addresses to `{type, bytes}`; `at` is where the page was found, `charset`
 * what its server said its letters are.
 */
export function rebuild(html, { at, charset, got, scripts, notes }) {
  const pieces = parseHtml(html);
  const base = baseOf(pieces, at);
  const written = new Map();
  const inside = [];
  let room = ROOM;

  /** An address as the file has it: its bytes, or the absolute address of what was not to be had. */
  const taken = (text, from, depth = 0) => {
    const address = absolute(text, from);
    if (!address) return null;
    const found = got.get(address);
    if (!found) return absoluteWithPart(text, from);
    const data = embedded(address, found, depth);
    if (data.length > room) {
      if (!notes.some((note) => note.address === address)) notes.push({ address, why: "the file is full" });
      return absoluteWithPart(text, from);
    }
    room -= data.length;
    return data + partOf(text);
  };

  const embedded = (address, found, depth) => {
    const isStyle = found.type.startsWith("text/css");
    // A sheet that imports itself, or a tower of sheets.
    if (isStyle && (depth > DEPTH || inside.includes(address))) return address;
    let data = written.get(address);
    if (data === undefined) {
      inside.push(address);
      const bytes = isStyle ? fromBinary(style(binary(found.bytes), address, depth + 1)) : found.bytes;
      inside.pop();
      data = `data:${found.type};base64,${base64(bytes)}`;
      written.set(address, data);
    }
    return data;
  };

  const style = (css, from, depth) => rewriteCss(css, (text) => taken(text, from, depth));

  const replace = (tag, name, value) => value !== null && value !== undefined && tag.set(name, value);

  for (const tag of pieces) {
    if (typeof tag === "string") continue;
    const equivalent = tag.name === "meta" ? (tag.get("http-equiv") ?? "").toLowerCase() : "";
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
    if (tag.name === "script") {
      if (!scripts) {
        tag.remove();
        continue;
      }
      if (tag.has("src")) replace(tag, "src", taken(tag.get("src"), base));
    }
    // The fingerprint of a sheet does not fit the sheet with its pictures in it.
    if (tag.name === "link" || tag.name === "script") tag.drop((name) => name === "integrity");
    if (!scripts) tag.drop((name) => name.startsWith("on"));
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
  const whole = pieces.join("");
  return insertNote(whole, noteOf(at, notes), charsetTag(html, charset));
}

/** Binary text of UTF-8 as text. */
const fromUtf8 = (text) => new TextDecoder().decode(fromBinary(text));

/** What the server said about letters is not in the file, unless the page says it too. */
function charsetTag(html, charset) {
  if (!charset || /<meta[^>]+charset/i.test(html.slice(0, 2048))) return "";
  return `<meta charset="${charset}">`;
}

function noteOf(at, notes) {
  const safe = (text) => utf8(text).replace(/--/g, "- -").replace(/[<>]/g, "");
  const lines = notes.map(({ address, why }) => `  ${safe(address)}: ${safe(why)}`);
  const missing = lines.length > 0 ? `\nNot taken in:\n${lines.join("\n")}\n` : " ";
  return `<!-- ${safe(at)} in one file, made by internet-sharing.${missing}-->`;
}

/** Puts the note behind the document's type (before it, browsers would read the page as one of the nineties). */
function insertNote(html, note, charset) {
  const type = /^\s*(?:<!--[\s\S]*?-->\s*)*<!doctype[^>]*>/i.exec(html)?.[0] ?? "";
  const rest = html.slice(type.length);
  const head = /^\s*(?:<!--[\s\S]*?-->\s*)*(?:<html[^>]*>\s*)?(?:<head[^>]*>)?/i.exec(rest)[0];
  return `${type}\n${note}${head}${charset}${rest.slice(head.length)}`;
}
