// What goes from split to run and from run to merge, and how far it is believed. Every part was in the hands of a
// stranger: of one part no more is read than was dealt to it, and nothing of it stands in the file unchecked.

import { isAbsolute, isCharset, isMediaType } from "./urls.js";

/** Resources of one page: a page is shared, not a site. */
export const RESOURCES = 50;
/** Remarks on one part or page; more are counted. */
const NOTES = 50;
/** Bytes of the JSON before the bytes of a part: three lists of fifty addresses at their longest, and some. */
const HEAD_BYTES = 768 * 1024;
/** Bytes that the resources of one part may have; a task's output ends at 8 MiB. */
export const PART_BYTES = 8 * 1024 * 1024 - HEAD_BYTES;
/** Characters of a reason why something is missing. */
const REASON = 200;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** `head` as JSON and some blobs as one array of bytes: u32 LE length, JSON with the blobs' sizes, blobs. */
export function pack(head, blobs = []) {
  const text = encoder.encode(JSON.stringify({ ...head, sizes: blobs.map((blob) => blob.length) }));
  const packed = new Uint8Array(4 + text.length + blobs.reduce((sum, blob) => sum + blob.length, 0));
  new DataView(packed.buffer).setUint32(0, text.length, true);
  packed.set(text, 4);
  let at = 4 + text.length;
  for (const blob of blobs) {
    packed.set(blob, at);
    at += blob.length;
  }
  return packed;
}

/** True for packed bytes, and for no text: no text begins with a length. */
export const isPacked = (bytes) => bytes.length > 5 && bytes[3] === 0 && bytes[4] === 0x7b;

/** What `pack` packed: the head, with its blobs as `blobs`. Throws for anything else. */
export function unpack(packed) {
  if (!isPacked(packed)) throw new TypeError("no part of this service");
  const length = new DataView(packed.buffer, packed.byteOffset, packed.length).getUint32(0, true);
  if (length > HEAD_BYTES || length > packed.length - 4) throw new RangeError("its head is too long");
  const { sizes, ...head } = JSON.parse(decoder.decode(packed.subarray(4, 4 + length)));
  let at = 4 + length;
  const blobs = listed(sizes, RESOURCES + 1).map((size) => {
    if (!Number.isSafeInteger(size) || size < 0 || size > packed.length - at) throw new RangeError("bytes are missing");
    return packed.subarray(at, (at += size));
  });
  return { ...head, blobs };
}

function listed(value, most) {
  if (!Array.isArray(value) || value.length > most) throw new TypeError(`no list of at most ${most}`);
  return value;
}

function addressed(value) {
  if (!isAbsolute(value)) throw new TypeError("an address is none of http: or https:");
  return value;
}

/** What a `list` part asks for: as many addresses as a split may give to one of so many parts. */
export function listIn({ addresses }, count) {
  const lists = count - 1;
  if (lists > RESOURCES) throw new RangeError(`${lists} lists, a page has at most ${RESOURCES} resources`);
  return listed(addresses, Math.ceil(RESOURCES / Math.max(lists, 1))).map(addressed);
}

/** The address that a `raw` part asks for. */
export const addressIn = ({ address }) => addressed(address);

/** The part with the page, checked: `{at, body, wrapped?, charset?, styles, dealt, notes}`. */
export function pageIn(packed) {
  const { at, wrapped, charset, resources, dealt, notes, more, blobs } = unpack(packed);
  const [body, ...bytes] = blobs;
  if (body === undefined) throw new TypeError("there is no page in it");
  if (wrapped !== undefined && !isMediaType(wrapped)) throw new TypeError("its type is no media type");
  const styles = listed(resources, RESOURCES).map(({ address }, index) => {
    if (bytes[index] === undefined) throw new RangeError("a style sheet is missing");
    return { address: addressed(address), type: "text/css", bytes: bytes[index] };
  });
  const lists = listed(dealt, RESOURCES).map((addresses) => listed(addresses, RESOURCES).map(addressed));
  return {
    at: addressed(at),
    body,
    wrapped,
    charset: isCharset(charset) ? charset : undefined,
    styles,
    dealt: lists,
    notes: listed(notes, NOTES + RESOURCES).map(({ address, why }) => ({ address: addressed(address), why: reason(why) })),
    more: Number.isSafeInteger(more) && more > 0 ? more : 0,
  };
}

/**
 * What a part brought of the addresses that were dealt to it, each once: `{address, type, bytes}`, or `{address, error}`
 * for what it did not bring. Whatever it says beside that is not read.
 */
export function broughtBy(packed, dealt) {
  const brought = new Map();
  let why = "its part did not bring it";
  try {
    const { resources, blobs } = unpack(packed);
    listed(resources, RESOURCES).forEach((one, index) => {
      const { address, type, error } = one ?? {};
      if (brought.has(address)) return;
      if (error !== undefined && error !== null) brought.set(address, { address, error: reason(error) });
      else if (!isMediaType(type)) brought.set(address, { address, error: "its type is no media type" });
      else if (blobs[index] !== undefined) brought.set(address, { address, type, bytes: blobs[index] });
    });
  } catch (error) {
    why = `its part is not readable: ${reason(error?.message)}`;
  }
  return dealt.map((address) => brought.get(address) ?? { address, error: why });
}

/** A reason on one line. */
export const reason = (text) => (typeof text === "string" ? text.slice(0, REASON).replace(/[\0-\x20]+/g, " ") : "no reason");

/** Remarks, of which the first are kept and the others counted. */
export class Notes {
  #known = new Set();
  list = [];
  more = 0;

  add(address, why) {
    if (this.#known.has(address)) return;
    if (this.list.length >= NOTES) {
      this.more += 1;
      return;
    }
    this.#known.add(address);
    this.list.push({ address, why });
  }
}
