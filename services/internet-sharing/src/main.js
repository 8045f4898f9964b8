// internet-sharing: a page and all that it shows, fetched by several devices, as one file that opens without a network.
//
// split (on a device that has the web): the page and its style sheets; gives one part with them, and parts that are
// lists of addresses. run: fetches its list. merge (on the requester, without the web): one HTML file of everything.
// In raw mode there is one part: an address, and its answer as an HTTP message.

import { binary, fromBinary, readable, utf8 } from "./bytes.js";
import { addressesIn } from "./css.js";
import { parseHtml } from "./html.js";
import { baseOf, neededBy, rebuild, textOf } from "./page.js";
import { addressIn, broughtBy, isPacked, listIn, Notes, pack, pageIn, PART_BYTES, reason, RESOURCES, unpack } from "./parts.js";
import { absolute, mediaType } from "./urls.js";

/** Fetches at a time; a device allows no more to one client. */
const AT_ONCE = 4;

/** @type {import("../../msm").Split} */
export async function* split(input, ctx) {
  const address = addressOf(input);
  if (ctx.params.mode === "raw") {
    yield pack({ kind: "raw", address });
    return;
  }
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${answer.url}: the server says ${answer.status}`);
  const bytes = await answer.bytes();
  if (bytes.length > PART_BYTES) throw new RangeError(`${bytes.length} bytes, at most ${PART_BYTES} are shared`);
  const said = answer.headers.get("content-type");
  const type = mediaType(said, answer.url);
  const at = absolute(answer.url);
  if (!at) throw new RangeError("the page's address is too long");
  if (!/^(?:text\/html|application\/xhtml\+xml)/.test(type)) {
    yield pack({ kind: "page", at, wrapped: type, resources: [], dealt: [], notes: [] }, [bytes]);
    return;
  }
  const charset = /charset\s*=\s*"?([\w.:-]{1,40})/i.exec(said ?? "")?.[1];
  const pieces = parseHtml(textOf(bytes, charset).text);
  const list = new List();
  for (const needed of neededBy(pieces, baseOf(pieces, at), ctx.params.scripts === "keep")) list.add(needed);
  const styles = await fetchStyles(list, PART_BYTES - bytes.length, ctx);
  const dealt = deal(list.left(), ctx.want ?? 1);
  // Who got which addresses stands here, with the page: merge takes each from nobody else.
  const { list: notes, more } = list.notes;
  const page = { kind: "page", at, charset, resources: styles.map(({ address }) => ({ address })), dealt, notes, more };
  yield pack(page, [bytes, ...styles.map((style) => style.bytes)]);
  for (const addresses of dealt) yield pack({ kind: "list", addresses });
}

/** What a page needs, each once, in the order in which it is needed, and no more of it than is shared. */
class List {
  #found = new Map();
  notes = new Notes();

  add({ address, isStyle }) {
    const known = this.#found.get(address);
    if (known) {
      known.isStyle ||= isStyle;
    } else if (this.#found.size < RESOURCES) {
      this.#found.set(address, { address, isStyle, done: false });
    } else {
      this.notes.add(address, `more than ${RESOURCES} resources`);
    }
  }

  /** Style sheets that nobody has fetched yet. */
  styles() {
    return [...this.#found.values()].filter((one) => one.isStyle && !one.done);
  }

  /** What is left for the parts. */
  left() {
    return [...this.#found.values()].filter((one) => !one.done).map((one) => one.address);
  }
}

/** Fetches style sheets, and those that they import: only they say which pictures and letters are needed. */
async function fetchStyles(list, room, ctx) {
  const styles = [];
  for (let open = list.styles(); open.length > 0; open = list.styles()) {
    const came = await fetchAll(open.map((one) => one.address), room, ctx);
    open.forEach((one) => (one.done = true));
    for (const { address, bytes, error } of came) {
      if (error) {
        list.notes.add(address, error);
        continue;
      }
      room -= bytes.length;
      styles.push({ address, bytes });
      for (const { address: text, isImport } of addressesIn(binary(bytes))) {
        const needed = absolute(text, address);
        if (needed) list.add({ address: needed, isStyle: isImport });
      }
    }
  }
  return styles;
}

/** Deals addresses out like cards, so that each device gets some of every host. */
function deal(addresses, want) {
  const count = Math.min(want, addresses.length);
  return Array.from({ length: count }, (_, part) => addresses.filter((_, index) => index % count === part));
}

/** @type {import("../../msm").Run} */
export async function run(input, ctx) {
  // Whoever runs the service whole gives the address itself: all steps in one, on one device.
  return isPacked(input) ? perform(input, ctx, ctx.chunk?.count ?? 1) : alone(input, ctx);
}

/** One of `count` parts. Whoever made it is a stranger, and this device answers for what it fetches. */
async function perform(input, ctx, count) {
  const part = unpack(input);
  if (ctx.params.mode === "raw") return message(addressIn(part));
  // The page itself was fetched by the split; it only passes.
  if (part.kind === "page") return input;
  const addresses = listIn(part, count);
  let done = 0;
  const came = await fetchAll(addresses, PART_BYTES, ctx, () => ctx.progress(++done / addresses.length));
  const blobs = came.map(({ bytes }) => bytes ?? new Uint8Array());
  const resources = came.map(({ address, type, error }) => ({ address, type, error }));
  return pack({ kind: "got", resources }, blobs);
}

async function alone(input, ctx) {
  const parts = [];
  for await (const part of split(input, ctx)) parts.push(part);
  const done = [];
  for (const part of parts) done.push(await perform(part, ctx, parts.length));
  return merge(done, ctx);
}

/** @type {import("../../msm").Merge} */
export function merge(parts, ctx) {
  // What a part says that it is does not count: the parameters and its place say so.
  if (ctx.params.mode === "raw") return parts[0];
  const page = pageIn(parts[0]);
  const scripts = ctx.params.scripts === "keep";
  if (page.wrapped) return wrap(page, scripts);
  const got = new Map(page.styles.map((style) => [style.address, style]));
  const { notes } = page;
  page.dealt.forEach((addresses, index) => {
    for (const one of broughtBy(parts[index + 1] ?? new Uint8Array(), addresses)) {
      if (one.error) notes.push({ address: one.address, why: one.error });
      else if (!got.has(one.address)) got.set(one.address, one);
    }
  });
  // In whatever order the parts came in, the file is the same.
  notes.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
  const { at, charset, more } = page;
  return fromBinary(rebuild(page.body, { at, charset, got, scripts, notes, more }));
}

/** What is no page, in one: a picture, or text. */
function wrap({ at, wrapped: type, body: bytes }, scripts) {
  const safe = at.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/"/g, "&quot;");
  const shown = type.startsWith("image/")
    ? `<img src="${safe}">`
    : type.startsWith("text/") || type.startsWith("application/json")
      ? `<pre>${readable(binary(bytes)).replace(/&/g, "&amp;").replace(/</g, "&lt;")}</pre>`
      : null;
  if (!shown) throw new Error(`${at} is ${type}, which is no page: try -p mode=raw`);
  const html = `<!doctype html><meta charset="utf-8"><title>${safe}</title>${shown}`;
  const got = new Map([[at, { type, bytes }]]);
  return fromBinary(rebuild(fromBinary(utf8(html)), { at, got, scripts, notes: [], more: 0 }));
}

/** Fetches addresses, some at a time. Each gives `{address, type, bytes}` or `{address, error}`; none fails all. */
async function fetchAll(addresses, room, ctx, done = () => {}) {
  const came = new Array(addresses.length);
  let next = 0;
  const worker = async () => {
    while (next < addresses.length) {
      const index = next++;
      const one = await fetchOne(addresses[index]);
      // No await from here to the next line but one: four of these share the room.
      const most = Math.min(room, ctx.params["max-bytes"]);
      const size = one.bytes?.length ?? 0;
      came[index] = size > most ? { address: one.address, error: `${size} bytes, there is room for ${most}` } : one;
      if (size <= most) room -= size;
      done();
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, addresses.length) }, worker));
  return came;
}

async function fetchOne(address) {
  try {
    const answer = await fetch(address);
    if (!answer.ok) return { address, error: `the server says ${answer.status}` };
    const bytes = await answer.bytes();
    return { address, type: mediaType(answer.headers.get("content-type"), address), bytes };
  } catch (error) {
    return { address, error: reason(`${error.message ?? error}`) };
  }
}

/** An answer as an HTTP message: status line, headers, an empty line, the body as it came. */
async function message(address) {
  const answer = await fetch(address);
  const bytes = await answer.bytes();
  if (bytes.length > PART_BYTES) throw new RangeError(`${bytes.length} bytes, at most ${PART_BYTES} are shared`);
  const isOne = ([name, value]) => /^[\w-]+$/.test(name) && !/[\r\n\0]/.test(value);
  const headers = [...answer.headers.entries()].filter(([name]) => name !== "content-length").filter(isOne);
  const lines = [`HTTP/1.1 ${answer.status} `, ...headers.map(([name, value]) => `${name}: ${value}`)];
  lines.push(`content-location: ${answer.url}`, `content-length: ${bytes.length}`);
  const head = new TextEncoder().encode(`${lines.join("\r\n")}\r\n\r\n`);
  const whole = new Uint8Array(head.length + bytes.length);
  whole.set(head);
  whole.set(bytes, head.length);
  return whole;
}

/** The address in a text/uri-list: its first line that is no remark. */
function addressOf(input) {
  const lines = new TextDecoder().decode(input).split(/\r?\n/);
  const line = lines.map((one) => one.trim()).find((one) => one !== "" && !one.startsWith("#"));
  const address = line && absolute(line);
  if (!address) throw new TypeError(`the input must be an http: or https: address, not ${JSON.stringify(line ?? "")}`);
  return address;
}
