// What addresses in a page mean.

/** The absolute http(s) address that `text` means on a page at `base`, without its `#part`; null for any other. */
export function absolute(text, base) {
  const at = parsed(text, base);
  return at && at.href.slice(0, at.href.length - at.hash.length);
}

/** The same, with its `#part`. */
export const absoluteWithPart = (text, base) => parsed(text, base)?.href ?? null;

/** `#part` of an address, or nothing. */
export const partOf = (text) => (text.includes("#") ? text.slice(text.indexOf("#")) : "");

function parsed(text, base) {
  const trimmed = text.trim();
  if (trimmed === "" || trimmed.startsWith("#")) return null;
  try {
    const url = new URL(trimmed, base);
    return url.protocol === "http:" || url.protocol === "https:" ? url : null;
  } catch {
    return null;
  }
}

const TYPES = {
  avif: "image/avif", bmp: "image/bmp", css: "text/css", gif: "image/gif", ico: "image/x-icon", jpeg: "image/jpeg",
  jpg: "image/jpeg", js: "text/javascript", mjs: "text/javascript", mp3: "audio/mpeg", mp4: "video/mp4",
  ogg: "audio/ogg", otf: "font/otf", png: "image/png", svg: "image/svg+xml", ttf: "font/ttf", vtt: "text/vtt",
  wav: "audio/wav", webm: "video/webm", webp: "image/webp", woff: "font/woff", woff2: "font/woff2",
};

/** The media type of an answer: what its server says, or what its name looks like. */
export function mediaType(said, address) {
  const match = /^\s*([\w.+-]+\/[\w.+-]+)\s*(?:;.*?charset\s*=\s*"?([\w.:-]+))?/i.exec(said ?? "");
  const ending = /\.([a-z0-9]+)(?:\?.*)?$/i.exec(address)?.[1].toLowerCase();
  const type = match?.[1].toLowerCase();
  const vague = !type || type === "application/octet-stream" || type === "text/plain" || type === "binary/octet-stream";
  const guessed = vague ? (TYPES[ending] ?? type ?? "application/octet-stream") : type;
  return match?.[2] && guessed.startsWith("text/") ? `${guessed};charset=${match[2].toLowerCase()}` : guessed;
}
