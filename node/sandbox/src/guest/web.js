// The globals of the web that few guests need, evaluated when one first touches any of them. Gives them in an object;
// prelude.js makes globals of some and members of `ctx` of others.
export default (native, { need, ask, log }) => {
  const { defineProperty, freeze, keys } = Object;
  const fail = (name, message) => {
    throw new DOMException(message, name);
  };
  const hidden = Symbol("hidden");

  // Aborting --------------------------------------------------------------------------------------------------------

  let abort;
  let newSignal;
  class AbortSignal {
    #aborted = false;
    #reason;
    #listeners = [];
    onabort = null;
    static {
      newSignal = () => new AbortSignal(hidden);
      abort = (signal, reason) => {
        if (signal.#aborted) return;
        signal.#aborted = true;
        signal.#reason = reason === undefined ? new DOMException("the operation was aborted", "AbortError") : reason;
        const event = freeze({ type: "abort", target: signal });
        const listeners = [[signal.onabort, false], ...signal.#listeners];
        signal.#listeners = signal.#listeners.filter(([, once]) => !once);
        for (const [listener] of listeners) {
          try {
            if (typeof listener === "function") listener.call(signal, event);
            else listener?.handleEvent?.(event);
          } catch (error) {
            log.error("in an abort listener:", error);
          }
        }
      };
    }
    constructor(token) {
      if (token !== hidden) throw new TypeError("use an AbortController, AbortSignal.timeout or AbortSignal.any");
    }
    get aborted() { return this.#aborted; }
    get reason() { return this.#reason; }
    throwIfAborted() {
      if (this.#aborted) throw this.#reason;
    }
    addEventListener(type, listener, options) {
      if (type !== "abort" || !listener || this.#listeners.some(([known]) => known === listener)) return;
      this.#listeners.push([listener, !!options?.once]);
    }
    removeEventListener(type, listener) {
      if (type === "abort") this.#listeners = this.#listeners.filter(([known]) => known !== listener);
    }
    static abort(reason) {
      const signal = newSignal();
      abort(signal, reason);
      return signal;
    }
    static timeout(wait) {
      const signal = newSignal();
      native.timer(() => abort(signal, new DOMException("the time is over", "TimeoutError")), wait, false);
      return signal;
    }
    static any(signals) {
      const signal = newSignal();
      for (const other of signals) {
        if (other.aborted) {
          abort(signal, other.reason);
          break;
        }
        other.addEventListener("abort", () => abort(signal, other.reason), { once: true });
      }
      return signal;
    }
  }
  class AbortController {
    #signal = newSignal();
    get signal() { return this.#signal; }
    abort(reason) { abort(this.#signal, reason); }
  }
  let lastCall;
  const signal = () => {
    if (!lastCall) {
      lastCall = newSignal();
      native.lastCall(() => abort(lastCall, new DOMException("the task's time is nearly over", "TimeoutError")));
    }
    return lastCall;
  };

  // Addresses -------------------------------------------------------------------------------------------------------

  const partNames = native.urlParts();
  let paramsOf;
  class URLSearchParams {
    #pairs = [];
    #changed;
    static {
      // The parameters of a URL, which is told of each change; `set` gives them other ones.
      paramsOf = (query, changed) => {
        const params = new URLSearchParams(query);
        params.#changed = changed;
        return { params, set: (query) => { params.#pairs = pairsOf(query); } };
      };
    }
    constructor(init = "") {
      if (typeof init === "object" && init !== null) {
        const pairs = init[Symbol.iterator] ? [...init] : keys(init).map((name) => [name, init[name]]);
        for (const pair of pairs) {
          const two = [...pair];
          if (two.length !== 2) throw new TypeError("URLSearchParams: a pair is a name and a value");
          this.#pairs.push([`${two[0]}`, `${two[1]}`]);
        }
      } else {
        this.#pairs = pairsOf(`${init}`);
      }
    }
    #change(pairs) {
      this.#pairs = pairs;
      this.#changed?.(this.toString());
    }
    get size() { return this.#pairs.length; }
    append(name, value) { this.#change([...this.#pairs, [`${name}`, `${value}`]]); }
    delete(name, value) {
      this.#change(this.#pairs.filter((pair) => pair[0] !== `${name}` || (value !== undefined && pair[1] !== `${value}`)));
    }
    get(name) { return this.#pairs.find((pair) => pair[0] === `${name}`)?.[1] ?? null; }
    getAll(name) { return this.#pairs.filter((pair) => pair[0] === `${name}`).map((pair) => pair[1]); }
    has(name, value) {
      return this.#pairs.some((pair) => pair[0] === `${name}` && (value === undefined || pair[1] === `${value}`));
    }
    set(name, value) {
      const at = this.#pairs.findIndex((pair) => pair[0] === `${name}`);
      const pairs = this.#pairs.filter((pair, index) => index === at || pair[0] !== `${name}`);
      if (at < 0) pairs.push([`${name}`, `${value}`]);
      else pairs[at] = [`${name}`, `${value}`];
      this.#change(pairs);
    }
    sort() { this.#change([...this.#pairs].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))); }
    forEach(act, self) {
      for (const [name, value] of this) act.call(self, value, name, this);
    }
    *keys() { for (const [name] of this.#pairs) yield name; }
    *values() { for (const [, value] of this.#pairs) yield value; }
    *entries() { for (const [name, value] of this.#pairs) yield [name, value]; }
    [Symbol.iterator]() { return this.entries(); }
    toString() { return native.query(this.#pairs.flat()); }
  }
  const pairsOf = (query) => {
    const flat = native.pairs(query.startsWith("?") ? query.slice(1) : query);
    const pairs = [];
    for (let at = 0; at < flat.length; at += 2) pairs.push([flat[at], flat[at + 1]]);
    return pairs;
  };
  class URL {
    #parts;
    #search;
    constructor(url, base) {
      this.#parts = native.url(`${url}`, base === undefined ? undefined : `${base}`);
      if (!this.#parts) throw new TypeError(`not a URL: ${url}`);
    }
    static canParse(url, base) {
      return native.url(`${url}`, base === undefined ? undefined : `${base}`) !== undefined;
    }
    static parse(url, base) { return URL.canParse(url, base) ? new URL(url, base) : null; }
    static {
      partNames.forEach((name, at) => {
        const part = { get() { return this.#parts[at]; }, configurable: true, enumerable: true };
        // An origin is what the other parts make it.
        if (name !== "origin") part.set = function (value) { this.#set(name, `${value}`); };
        defineProperty(URL.prototype, name, part);
      });
    }
    #set(name, value) {
      const parts = native.urlSet(this.#parts[0], name, value);
      if (!parts) throw new TypeError(`not a URL: ${value}`);
      this.#parts = parts;
      this.#search?.set(this.search);
    }
    get searchParams() {
      const changed = (query) => { this.#parts = native.urlSet(this.#parts[0], "search", query); };
      this.#search ??= paramsOf(this.search, changed);
      return this.#search.params;
    }
    toString() { return this.#parts[0]; }
    toJSON() { return this.#parts[0]; }
  }

  // Fetching --------------------------------------------------------------------------------------------------------

  const isBytes = (value) => value instanceof ArrayBuffer || ArrayBuffer.isView(value);
  const octets = (value) =>
    value instanceof ArrayBuffer ? new Uint8Array(value) : new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  const headersOf = (init) => {
    const headers = {};
    const pairs = init?.[Symbol.iterator] ? init : keys(init ?? {}).map((name) => [name, init[name]]);
    for (const [name, value] of pairs) {
      const lower = `${name}`.toLowerCase();
      headers[lower] = lower in headers ? `${headers[lower]}, ${value}` : `${value}`;
    }
    return headers;
  };
  const response = ({ status, url, headers }, bytes) => {
    const pairs = headers.map(([name, value]) => [name.toLowerCase(), value]);
    const all = (name) => pairs.filter((pair) => pair[0] === `${name}`.toLowerCase()).map((pair) => pair[1]);
    const text = () => native.text(bytes, false, false);
    return freeze({
      status,
      ok: status >= 200 && status < 300,
      url,
      headers: freeze({
        get: (name) => (all(name).length ? all(name).join(", ") : null),
        has: (name) => all(name).length > 0,
        entries: () => pairs.map((pair) => [...pair])[Symbol.iterator](),
        [Symbol.iterator]() { return this.entries(); },
      }),
      bytes: async () => bytes,
      arrayBuffer: async () => bytes.buffer,
      text: async () => text(),
      json: async () => JSON.parse(text()),
    });
  };
  const fetch = (resource, init) =>
    new Promise((resolve, reject) => {
      need("net", "net.fetch");
      const { method = "GET", headers, body, signal } = init ?? {};
      const args = { url: new URL(resource).href, method: `${method}`.toUpperCase(), headers: headersOf(headers) };
      if (!["GET", "HEAD", "POST"].includes(args.method)) throw new TypeError(`fetch: GET, HEAD or POST, not ${method}`);
      if (body !== undefined && body !== null) {
        if (args.method !== "POST") throw new TypeError(`fetch: ${args.method} takes no body`);
        if (body instanceof URLSearchParams) args.headers["content-type"] ??= "application/x-www-form-urlencoded;charset=UTF-8";
        const bytes = isBytes(body) ? octets(body) : native.utf8(`${body}`);
        // As base64, with the rest of the question, it must fit into a message to the device.
        if (bytes.length > 48000) throw new RangeError(`fetch: a body of ${bytes.length} bytes, at most 48000`);
        args.body = native.base64(bytes);
      }
      signal?.throwIfAborted();
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
      ask("net", "net.fetch", args, response, resolve, reject);
    });

  // Copies ----------------------------------------------------------------------------------------------------------

  const errorClasses = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };
  const refuse = (what) => fail("DataCloneError", `${what} cannot be cloned`);
  const never = [Promise, WeakMap, WeakSet, AbortSignal, AbortController];
  const structuredClone = (value, options) => {
    const known = new Map();
    const moved = [...(options?.transfer ?? [])];
    if (moved.some((buffer) => !(buffer instanceof ArrayBuffer))) refuse("what is transferred and no ArrayBuffer");
    // All that can fail comes before a buffer leaves its owner.
    const copyOf = (value) => {
      if (typeof value === "function" || typeof value === "symbol") refuse(`a ${typeof value}`);
      if (typeof value !== "object" || value === null) return value;
      const earlier = known.get(value);
      if (earlier !== undefined) return earlier;
      const keep = (copy) => {
        known.set(value, copy);
        return copy;
      };
      if (Array.isArray(value)) return fields(value, keep(new Array(value.length)));
      if (value instanceof Date) return keep(new Date(value.getTime()));
      if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
      if (value instanceof ArrayBuffer) return keep(value.slice(0));
      if (ArrayBuffer.isView(value)) return keep(viewOf(value));
      if (value instanceof Map) {
        const copy = keep(new Map());
        for (const [key, held] of [...value]) copy.set(copyOf(key), copyOf(held));
        return copy;
      }
      if (value instanceof Set) {
        const copy = keep(new Set());
        for (const held of [...value]) copy.add(copyOf(held));
        return copy;
      }
      if (value instanceof Error) {
        const copy = keep(new (errorClasses[value.name] ?? Error)(`${value.message}`));
        defineProperty(copy, "stack", { value: `${value.stack}`, writable: true, configurable: true });
        if ("cause" in value) defineProperty(copy, "cause", { value: copyOf(value.cause), writable: true, configurable: true });
        return copy;
      }
      for (const Box of [Boolean, Number, String, BigInt]) {
        if (value instanceof Box) return keep(Object(Box.prototype.valueOf.call(value)));
      }
      const no = never.find((one) => value instanceof one);
      if (no || value instanceof SharedArrayBuffer) refuse(`a ${no?.name ?? "SharedArrayBuffer"}`);
      return fields(value, keep({}));
    };
    const fields = (from, to) => {
      for (const key of keys(from)) {
        defineProperty(to, key, { value: copyOf(from[key]), writable: true, enumerable: true, configurable: true });
      }
      return to;
    };
    const viewOf = (view) => {
      const buffer = copyOf(view.buffer);
      const { byteOffset, byteLength } = view;
      if (view instanceof DataView) return new DataView(buffer, byteOffset, byteLength);
      const count = view.length;
      // A view's class is known by its tag, which no own field can hide.
      const tag = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag);
      return new globalThis[tag.get.call(view)](buffer, byteOffset, count);
    };
    const copy = copyOf(value);
    for (const buffer of moved) buffer.transfer(0);
    return copy;
  };

  // Chance, tables --------------------------------------------------------------------------------------------------

  const crypto = freeze({
    getRandomValues: (array) => {
      need("random", "crypto.getRandomValues");
      if (!ArrayBuffer.isView(array) || array instanceof DataView) throw new TypeError("expected a typed array of integers");
      if (array.byteLength > 65536) fail("QuotaExceededError", "at most 65536 random bytes at a time");
      octets(array).set(native.chance(array.byteLength));
      return array;
    },
    randomUUID: () => {
      need("random", "crypto.randomUUID");
      const bytes = native.chance(16);
      bytes[6] = (bytes[6] & 0x0f) | 0x40;
      bytes[8] = (bytes[8] & 0x3f) | 0x80;
      const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
    },
  });

  const table = (rows, columns) => {
    if (typeof rows !== "object" || rows === null) return log.info(rows);
    const isRow = (row) => typeof row === "object" && row !== null;
    const names = columns ?? [...new Set(keys(rows).flatMap((key) => (isRow(rows[key]) ? keys(rows[key]) : [])))];
    const bare = keys(rows).some((key) => !isRow(rows[key]));
    const show = (value) => (value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value) ?? `${value}`);
    const lines = [["", ...names, ...(bare ? ["value"] : [])]];
    for (const key of keys(rows)) {
      const row = rows[key];
      const cells = names.map((name) => show(isRow(row) ? row[name] : undefined));
      lines.push([key, ...cells, ...(bare ? [isRow(row) ? "" : show(row)] : [])]);
    }
    const widths = lines[0].map((_, at) => Math.max(...lines.map((line) => line[at].length)));
    log.info(lines.map((line) => line.map((cell, at) => cell.padEnd(widths[at])).join("  ").trimEnd()).join("\n"));
  };

  return freeze({ AbortController, AbortSignal, URL, URLSearchParams, crypto, fetch, signal, structuredClone, table });
};
