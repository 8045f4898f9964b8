// What a guest finds beside the language. Evaluated before the guest in each of its contexts, with `native` from
// host.rs; gives the function that makes `ctx`. Nothing here may be trusted for safety: the walls are elsewhere.
export default (native) => {
  const { freeze, defineProperty, values } = Object;
  const { construct } = Reflect;
  const parse = JSON.parse;
  const global = globalThis;
  const define = (name, value) =>
    defineProperty(global, name, { value, writable: true, configurable: true, enumerable: false });

  // Two runs of a task give the same bytes: no clock, no chance, no view of the garbage collector.
  delete global.performance;
  delete global.WeakRef;
  delete global.FinalizationRegistry;
  Math.random = native.random;
  const RealDate = Date;
  const FrozenDate = function Date(...args) {
    if (!new.target) return new RealDate(0).toString();
    return construct(RealDate, args.length ? args : [0], new.target);
  };
  defineProperty(FrozenDate, "prototype", { value: RealDate.prototype, writable: false });
  defineProperty(RealDate.prototype, "constructor", { value: FrozenDate, writable: true, configurable: true });
  for (const [name, value] of [["now", () => 0], ["parse", RealDate.parse], ["UTC", RealDate.UTC]]) {
    defineProperty(FrozenDate, name, { value, writable: true, configurable: true });
  }
  define("Date", FrozenDate);

  const logger = (level) => (...args) => native.log(level, ...args);
  const log = freeze({ info: logger(""), warn: logger("warn: "), error: logger("error: ") });
  define("console", { log: log.info, info: log.info, debug: log.info, warn: log.warn, error: log.error });

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

  const deepFreeze = (value) => {
    if (typeof value === "object" && value !== null) {
      for (const inner of values(value)) deepFreeze(inner);
      freeze(value);
    }
    return value;
  };
  const image = freeze({
    decode: (bytes) => native.decode(bytes),
    encode: (picture, options) => {
      const type = options?.type ?? "image/png";
      if (type !== "image/png") throw new TypeError(`image.encode writes image/png, not ${type}`);
      const { width, height, data } = picture;
      return native.encode(width, height, data);
    },
  });
  return (params, shape) =>
    freeze({ params: deepFreeze(parse(params)), log, progress: native.progress, image, ...deepFreeze(shape) });
};
