// Bytes as text and back. Pages and style sheets are worked on as "binary text": one character for each byte. Whatever
// encoding an author used, the bytes that nobody touches stay as they are.

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** @param {Uint8Array} bytes */
export function binary(bytes) {
  const step = 8192;
  const pieces = [];
  for (let at = 0; at < bytes.length; at += step) {
    pieces.push(String.fromCharCode.apply(null, bytes.subarray(at, at + step)));
  }
  return pieces.join("");
}

/** The bytes of binary text. */
export function fromBinary(text) {
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  return bytes;
}

/** Binary text of any text, as UTF-8. */
export const utf8 = (text) => binary(encoder.encode(text));

/** What binary text says, read as UTF-8; as it is where it is none. */
export function readable(text) {
  if (!/[\x80-\xff]/.test(text)) return text;
  const read = decoder.decode(fromBinary(text));
  return read.includes("\ufffd") ? text : read;
}

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/** Bytes that become text at a time, a multiple of three: a list of all pieces would be larger than the text. */
const SLICE = 3 * 16384;
// Twelve bits at a time: half as many steps.
let pairs;

/** @param {Uint8Array} bytes */
export function base64(bytes) {
  const texts = [];
  for (let at = 0; at < bytes.length; at += SLICE) texts.push(slice64(bytes.subarray(at, at + SLICE)));
  return texts.join("");
}

function slice64(bytes) {
  pairs ??= Array.from({ length: 4096 }, (_, bits) => DIGITS[bits >> 6] + DIGITS[bits & 63]);
  const whole = bytes.length - (bytes.length % 3);
  const out = new Array(whole / 3);
  for (let at = 0, to = 0; at < whole; at += 3, to++) {
    const bits = (bytes[at] << 16) | (bytes[at + 1] << 8) | bytes[at + 2];
    out[to] = pairs[bits >> 12] + pairs[bits & 4095];
  }
  let text = out.join("");
  if (whole + 1 === bytes.length) text += pairs[bytes[whole] << 4] + "==";
  if (whole + 2 === bytes.length) {
    const bits = (bytes[whole] << 16) | (bytes[whole + 1] << 8);
    text += pairs[bits >> 12] + DIGITS[(bits >> 6) & 63] + "=";
  }
  return text;
}
