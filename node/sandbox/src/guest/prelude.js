// What a guest finds beside the language. Evaluated before the guest in each of its contexts, with `native` from
// natives.rs; gives the function that makes `ctx`. What few guests use is in web.js, evaluated when it is first
// touched. Nothing here may be trusted for safety: the walls are elsewhere, and each native function checks for itself
// what it is asked.
export default (native) => {
  const { freeze, defineProperty, values } = Object;
  const { construct, apply } = Reflect;
  const { parse, stringify } = JSON;
  const { Promise, Error, RangeError, TypeError } = globalThis;
  // No guest may have one of them freed, whatever it gets hold of.
  freeze(native);
  const global = globalThis;
  const define = (name, value) =>
    defineProperty(global, name, { value, writable: true, configurable: true, enumerable: false });

  // Two runs of a task give the same bytes: no clock and no chance but what the manifest asks for, no view of the
  // garbage collector.
  delete global.performance;
  delete global.WeakRef;
  delete global.FinalizationRegistry;
  Math.random = native.random;
  const RealDate = Date;
  const now = native.now;
  const GuestDate = function Date(...args) {
    if (!new.target) return new RealDate(now()).toString();
    return construct(RealDate, args.length ? args : [now()], new.target);
  };
  defineProperty(GuestDate, "prototype", { value: RealDate.prototype, writable: false });
  defineProperty(RealDate.prototype, "constructor", { value: GuestDate, writable: true, configurable: true });
  for (const [name, value] of [["now", now], ["parse", RealDate.parse], ["UTC", RealDate.UTC]]) {
    defineProperty(GuestDate, name, { value, writable: true, configurable: true });
  }
  define("Date", GuestDate);

  class PermissionError extends Error {}
  defineProperty(PermissionError.prototype, "name", { value: "PermissionError", writable: true, configurable: true });
  define("PermissionError", PermissionError);
  const need = (right, what) => {
    const why = native.missing(right, what);
    if (why) throw new PermissionError(why);
  };

  // The classes of AskErrorKind, by its numbers.
  const classes = [Error, PermissionError, Error, RangeError, TypeError];
  // Has the device answer; `make` turns its JSON and bytes into what the guest gets.
  const ask = (right, op, args, make, resolve, reject) => {
    need(right, op);
    const asked = new Error();
    const answered = (json, bytes) => {
      try {
        resolve(make(parse(json), bytes));
      } catch (error) {
        reject(error);
      }
    };
    const failed = (kind, message) => {
      const error = new classes[kind](message);
      // Where the guest asked says more than where the answer came in.
      defineProperty(error, "stack", { value: asked.stack, writable: true, configurable: true });
      reject(error);
    };
    native.ask(right, op, stringify(args), answered, failed);
  };
  const asking = (right, op, fields) => (options) =>
    new Promise((resolve, reject) => {
      const args = {};
      for (const field of fields) if (options?.[field] !== undefined) args[field] = options[field];
      ask(right, op, args, freeze, resolve, reject);
    });

  let parts;
  const web = () => (parts ??= native.web()(native, { define, need, ask, log }));
  const lazy = "AbortController AbortSignal URL URLSearchParams crypto structuredClone".split(" ");
  for (const name of lazy) {
    const get = () => {
      const value = web()[name];
      define(name, value);
      return value;
    };
    defineProperty(global, name, { get, set: (value) => define(name, value), configurable: true, enumerable: false });
  }

  const logger = (level) => (...args) => native.log(level, ...args);
  const log = freeze({ info: logger(""), warn: logger("warn: "), error: logger("error: ") });
  define("console", {
    log: log.info,
    info: log.info,
    debug: log.info,
    warn: log.warn,
    error: log.error,
    assert: (truth, ...args) => truth || log.error("assertion failed", ...args),
    table: (rows, columns) => web().table(rows, columns),
  });

  const timer = (name, repeats) => (act, wait = 0, ...args) => {
    if (typeof act !== "function") throw new TypeError(`${name} takes a function`);
    return native.timer(() => apply(act, undefined, args), +wait, repeats);
  };
  const untimer = (number) => {
    if (typeof number === "number") native.untimer(number);
  };
  for (const [name, repeats] of [["setTimeout", false], ["setInterval", true]]) define(name, timer(name, repeats));
  for (const name of ["clearTimeout", "clearInterval"]) define(name, untimer);

  define("TextEncoder", class TextEncoder {
    get encoding() { return "utf-8"; }
    encode(text = "") { return native.utf8(`${text}`); }
  });
  define("TextDecoder", class TextDecoder {
    #fatal; #keepBom;
    constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
      if (!/^\s*(utf-?8|unicode-1-1-utf-8)\s*$/i.test(label)) throw new RangeError(`unknown encoding ${label}`);
      this.#fatal = !!fatal;
      this.#keepBom = !!ignoreBOM;
    }
    get encoding() { return "utf-8"; }
    get fatal() { return this.#fatal; }
    get ignoreBOM() { return this.#keepBom; }
    decode(bytes, { stream = false } = {}) {
      if (stream) throw new TypeError("TextDecoder: decoding in pieces is not supported, decode all bytes at once");
      return bytes === undefined ? "" : native.text(bytes, this.#fatal, this.#keepBom);
    }
  });

  const image = freeze({
    decode: (bytes) => {
      need("image", "ctx.image.decode");
      return native.decode(bytes);
    },
    encode: (picture, options) => {
      need("image", "ctx.image.encode");
      const type = options?.type ?? "image/png";
      if (type !== "image/png") throw new TypeError(`image.encode writes image/png, not ${type}`);
      const { width, height, data } = picture;
      return native.encode(width, height, data);
    },
  });
  const assets = freeze({
    list: native.assets,
    read: (path) => {
      const bytes = native.asset(`${path}`);
      if (bytes) return bytes;
      const all = native.assets();
      throw new Error(`no file ${path} in the package's assets/: it has ${all.length ? all.join(", ") : "none"}`);
    },
  });
  const fetch = (resource, init) => web().fetch(resource, init);
  define("fetch", fetch);
  const net = freeze({ fetch });
  const gps = freeze({ position: asking("gps", "gps.position", ["maxAge", "accuracy"]) });
  const device = freeze({ status: asking("device", "device.status", []) });

  const deepFreeze = (value) => {
    if (typeof value === "object" && value !== null) {
      for (const inner of values(value)) deepFreeze(inner);
      freeze(value);
    }
    return value;
  };
  return (params, place) =>
    freeze({
      params: deepFreeze(parse(params)),
      ...deepFreeze(place),
      get signal() { return web().signal(); },
      log,
      progress: native.progress,
      gps,
      net,
      image,
      assets,
      device,
    });
};
