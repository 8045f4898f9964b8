// internet-sharing: a page and all that it shows, fetched by several devices, as one file that opens without a network.
//
// split (on a device that has the web): the page and its style sheets; gives one part with them, and parts that are
// lists of addresses. run: fetches its list. merge (on the requester, without the web): one HTML file of everything.
// In raw mode there is one part: an address, and its answer as an HTTP message.

import { binary, fromBinary, isPacked, pack, readable, unpack, utf8 } from "./bytes.js";
import { addressesIn } from "./css.js";
import { parseHtml } from "./html.js";
import { baseOf, neededBy, rebuild } from "./page.js";
import { absolute, mediaType } from "./urls.js";

/** Resources of one page: a page is shared, not a site. */
const RESOURCES = 50;
/** Bytes that one part may bring back; a task's output ends at 8 MiB. */
const PART_BYTES = 8 * 1024 * 1024 - 256 * 1024;
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
  const said = answer.headers.get("content-type");
  const type = mediaType(said, answer.url);
  if (!/^(?:text\/html|application\/xhtml\+xml)/.test(type)) {
    yield pack({ kind: "page", at: answer.url, wrapped: type, resources: [], notes: [] }, [bytes]);
    return;
  }
  const html = binary(bytes);
  const pieces = parseHtml(html);
  const base = baseOf(pieces, answer.url);
  const list = new List();
  for (const needed of neededBy(pieces, base, { scripts: ctx.params.scripts === "keep" })) list.add(needed);
  const styles = await fetchStyles(list, PART_BYTES - bytes.length, ctx);
  const charset = /charset\s*=\s*"?([\w.:-]+)/i.exec(said ?? "")?.[1];
  const resources = styles.map(({ address, type, bytes }) => ({ address, type, size: bytes.length }));
  const page = { kind: "page", at: answer.url, charset, resources, notes: list.notes };
  yield pack(page, [bytes, ...styles.map((style) => style.bytes)]);
  yield* shares(list.left(), ctx.want ?? 1);
}

/** What a page needs, each once, in the order in which it is needed, and no more of it than is shared. */
class List {
  #found = new Map();
  notes = [];

  add({ address, isStyle }) {
    const known = this.#found.get(address);
    if (known) {
      known.isStyle ||= isStyle;
    } else if (this.#found.size < RESOURCES) {
      this.#found.set(address, { address, isStyle, done: false });
    } else if (!this.notes.some((note) => note.address === address)) {
      this.notes.push({ address, why: `more than ${RESOURCES} resources` });
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
    for (const { address, type, bytes, error } of came) {
      if (error) {
        list.notes.push({ address, why: error });
        continue;
      }
      room -= bytes.length;
      styles.push({ address, type: type.startsWith("text/css") ? type : "text/css", bytes });
      for (const { address: text, isImport } of addressesIn(binary(bytes))) {
        const needed = absolute(text, address);
        if (needed) list.add({ address: needed, isStyle: isImport });
      }
    }
  }
  return styles;
}

/** Deals addresses out like cards, so that each device gets some of every host. */
function* shares(addresses, want) {
  const count = Math.min(want, addresses.length);
  for (let part = 0; part < count; part++) {
    yield pack({ kind: "list", addresses: addresses.filter((_, index) => index % count === part) });
  }
}

/** @type {import("../../msm").Run} */
export async function run(input, ctx) {
  // Whoever runs the service whole gives the address itself: all steps in one, on one device.
  if (!isPacked(input)) return alone(input, ctx);
  const part = unpack(input);
  if (part.kind === "raw") return message(part.address);
  // The page itself was fetched by the split; it only passes.
  if (part.kind === "page") return input;
  let done = 0;
  const came = await fetchAll(part.addresses, PART_BYTES, ctx, () => ctx.progress(++done / part.addresses.length));
  const blobs = came.map(({ bytes }) => bytes ?? new Uint8Array());
  const resources = came.map(({ address, type, error }) => ({ address, type, error }));
  return pack({ kind: "got", resources }, blobs);
}

async function alone(input, ctx) {
  const parts = [];
  for await (const part of split(input, ctx)) parts.push(await run(part, ctx));
  return merge(parts, ctx);
}

/** @type {import("../../msm").Merge} */
export function merge(parts, ctx) {
  const read = parts.map((part) => (ctx.params.mode === "raw" ? { kind: "answer", blobs: [part] } : unpack(part)));
  const answer = read.find((part) => part.kind === "answer");
  if (answer) return answer.blobs[0];
  const page = read.find((part) => part.kind === "page");
  if (!page) throw new Error("the part with the page is missing");
  const [body, ...styles] = page.blobs;
  if (page.wrapped) return wrap(page, body);
  const got = new Map();
  const notes = [...page.notes];
  page.resources.forEach(({ address, type }, index) => got.set(address, { type, bytes: styles[index] }));
  for (const { resources, blobs } of read.filter((part) => part.kind === "got")) {
    resources.forEach(({ address, type, error }, index) => {
      if (error) notes.push({ address, why: error });
      else got.set(address, { type, bytes: blobs[index] });
    });
  }
  // In whatever order the parts came in, the file is the same.
  notes.sort((a, b) => (a.address < b.address ? -1 : 1));
  const scripts = ctx.params.scripts === "keep";
  return fromBinary(rebuild(binary(body), { at: page.at, charset: page.charset, got, scripts, notes }));
}

/** What is no page, in one: a picture, or text. */
function wrap({ at, wrapped: type }, bytes) {
  const shown = type.startsWith("image/")
    ? `<img src="${at}">`
    : type.startsWith("text/") || type.startsWith("application/json")
      ? `<pre>${readable(binary(bytes)).replace(/&/g, "&amp;").replace(/</g, "&lt;")}</pre>`
      : null;
  if (!shown) throw new Error(`${at} is ${type}, which is no page: try -p mode=raw`);
  const html = `<!doctype html><meta charset="utf-8"><title>${at.replace(/[<&]/g, "")}</title>${shown}`;
  const got = new Map([[absolute(at, at), { type, bytes }]]);
  return fromBinary(rebuild(utf8(html), { at, got, scripts: false, notes: [] }));
}

/** Fetches addresses, some at a time. Each gives `{address, type, bytes}` or `{address, error}`; none fails all. */
async function fetchAll(addresses, room, ctx, done = () => {}) {
  const came = new Array(addresses.length);
  let next = 0;
  const worker = async () => {
    while (next < addresses.length) {
      const index = next++;
      const one = await fetchOne(addresses[index], Math.min(room, ctx.params["max-bytes"]));
      room -= one.bytes?.length ?? 0;
      came[index] = one;
      done();
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, addresses.length) }, worker));
  return came;
}

async function fetchOne(address, most) {
  try {
    const answer = await fetch(address);
    if (!answer.ok) return { address, error: `the server says ${answer.status}` };
    const bytes = await answer.bytes();
    if (bytes.length > most) return { address, error: `${bytes.length} bytes, there is room for ${most}` };
    return { address, type: mediaType(answer.headers.get("content-type"), address), bytes };
  } catch (error) {
    return { address, error: `${error.message ?? error}`.slice(0, 200) };
  }
}

/** An answer as an HTTP message: status line, headers, an empty line, the body as it came. */
async function message(address) {
  const answer = await fetch(address);
  const bytes = await answer.bytes();
  if (bytes.length > PART_BYTES) throw new RangeError(`${bytes.length} bytes, at most ${PART_BYTES} are shared`);
  const headers = [...answer.headers.entries()].filter(([name]) => name !== "content-length");
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
