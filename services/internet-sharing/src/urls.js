// What addresses in a page mean.

/** Characters of an address; longer ones are none. Browsers take more, servers hardly. */
const ADDRESS = 4096;

/** The absolute http(s) address that `text` means on a page at `base`, without its `#part`; null for any other. */
export function absolute(text, base) {
  const at = parsed(text, base);
  return at && at.href.split("#", 1)[0];
}

/** The same, with its `#part`. */
export const absoluteWithPart = (text, base) => parsed(text, base)?.href ?? null;

/** `#part` of an address, escaped, or nothing. */
export const partOf = (text, base) => parsed(text, base)?.hash ?? "";

/** True for what `absolute` gives. */
export const isAbsolute = (text) => typeof text === "string" && absolute(text) === text;

function parsed(text, base) {
  const trimmed = text.length > ADDRESS ? "" : text.trim();
  if (trimmed === "" || trimmed.startsWith("#")) return null;
  try {
    const url = new URL(trimmed, base);
    return /^https?:$/.test(url.protocol) && url.href.length <= ADDRESS ? url : null;
  } catch {
    return null;
  }
}

/** The address that a link may lead to where no script may run; null for any other. */
export function leading(text, base) {
  const trimmed = text.trim();
  if (trimmed === "" || trimmed.startsWith("#")) return trimmed;
  if (/^mailto:/i.test(trimmed)) return URL.parse(trimmed)?.href ?? null;
  return absoluteWithPart(trimmed, base);
}

/** True for what `mediaType` gives: others wrote it, and it stands in the file. */
export const isMediaType = (text) =>
  typeof text === "string" && /^[\w.+-]{1,64}\/[\w.+-]{1,64}(?:;charset=[\w.:-]{1,40})?$/.test(text);

/** True for a name of an encoding. */
export const isCharset = (text) => typeof text === "string" && /^[\w.:-]{1,40}$/.test(text);

const TYPES = {
  avif: "image/avif", bmp: "image/bmp", css: "text/css", gif: "image/gif", ico: "image/x-icon", jpeg: "image/jpeg",
  jpg: "image/jpeg", js: "text/javascript", mjs: "text/javascript", mp3: "audio/mpeg", mp4: "video/mp4",
  ogg: "audio/ogg", otf: "font/otf", png: "image/png", svg: "image/svg+xml", ttf: "font/ttf", vtt: "text/vtt",
  wav: "audio/wav", webm: "video/webm", webp: "image/webp", woff: "font/woff", woff2: "font/woff2",
};

/** The media type of an answer: what its server says, or what its name looks like. */
export function mediaType(said, address) {
  const match = /^\s*([\w.+-]{1,64}\/[\w.+-]{1,64})\s*(?:;.*?charset\s*=\s*"?([\w.:-]{1,40}))?/i.exec(said ?? "");
  const ending = /\.([a-z0-9]+)(?:\?.*)?$/i.exec(address)?.[1].toLowerCase();
  const type = match?.[1].toLowerCase();
  const vague = !type || type === "application/octet-stream" || type === "text/plain" || type === "binary/octet-stream";
  const guessed = vague ? (TYPES[ending] ?? type ?? "application/octet-stream") : type;
  return match?.[2] && guessed.startsWith("text/") ? `${guessed};charset=${match[2].toLowerCase()}` : guessed;
}
