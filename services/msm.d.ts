// Types for services in JavaScript: what `run`, `split` and `merge` get, and what is global beside the language.
//
//     /** @type {import("./msm").Run} */
//     export function run(input, ctx) { … }
//
// A member whose line names a permission fails with a PermissionError unless service.toml asks for it under
// [permissions] and the device's owner agrees.

/** What `run` and `merge` give: bytes as they are, a string as UTF-8, anything else as JSON. */
export type Output = Uint8Array | Uint8ClampedArray | ArrayBuffer | string | number | boolean | null | object;

/** One task: its input to its output. */
export type Run = (input: Uint8Array, ctx: Ctx) => Output | Promise<Output>;

/** For `[work] split = "service"`: the input cut into about `ctx.want` parts, each the input of one task. */
export type Split = (
  input: Uint8Array,
  ctx: Ctx,
) => Iterable<Output> | AsyncIterable<Output> | Promise<Iterable<Output> | AsyncIterable<Output>>;

/** For `[work] split = "service"`: the outputs of all tasks, in order, put together. */
export type Merge = (parts: Uint8Array[], ctx: Ctx) => Output | Promise<Output>;

/** A task's view of its job and of its device. Frozen. */
export interface Ctx {
  /** The parameters of the job, checked against service.toml and completed with its defaults. */
  readonly params: Readonly<Record<string, any>>;
  /** Which task this is; in `run` only. */
  readonly chunk?: Chunk;
  /** How many parts are wished for; in `split` only. */
  readonly want?: number;
  /** The shape of the rows in `input`; in `run` of a service with `split = "image-rows"` only. */
  readonly tile?: Tile;
  /** Aborts shortly before the task's time is over: 250 ms, or a tenth of a time below 2.5 s. */
  readonly signal: AbortSignal;
  /** Shown to the job's owner and kept with it, up to 64 KiB a task. */
  readonly log: Log;
  /** Tells how much of the task is done, from 0 to 1. */
  progress(part: number): void;
  /** Needs `gps = "coarse"` or `gps = "precise"`. */
  readonly gps: Gps;
  /** Needs `net = ["example.org"]`, a list of hosts. */
  readonly net: Net;
  /** Needs `image = true`. */
  readonly image: Images;
  /** The files in the package's `assets/`. */
  readonly assets: Assets;
  /** Needs `device = true`. */
  readonly device: Device;
}

export interface Chunk {
  /** From 0. */
  readonly index: number;
  readonly count: number;
}

/** `input` holds `height` rows of `width` RGBA pixels; return the rows without the first `top` and last `bottom`. */
export interface Tile {
  readonly width: number;
  readonly height: number;
  readonly top: number;
  readonly bottom: number;
}

export interface Log {
  info(...values: unknown[]): void;
  warn(...values: unknown[]): void;
  error(...values: unknown[]): void;
}

export interface Gps {
  /** The device's position, as exact as its owner allows. `maxAge` in seconds, `accuracy` in metres. */
  position(options?: { maxAge?: number; accuracy?: number }): Promise<Position>;
}

export interface Position {
  /** Degrees north. */
  readonly lat: number;
  /** Degrees east. */
  readonly lon: number;
  /** Metres above the sea. */
  readonly alt?: number;
  /** Metres. */
  readonly accuracy: number;
  /** Seconds since 1970. */
  readonly time: number;
  /** Seconds. */
  readonly age: number;
  /** What the device has it from, such as `"gpsd"`. */
  readonly source?: string;
}

export interface Net {
  /** The same as the global `fetch`. */
  fetch(resource: string | URL, init?: FetchInit): Promise<FetchResponse>;
}

export interface FetchInit {
  method?: "GET" | "HEAD" | "POST";
  headers?: [string, string][] | Iterable<[string, string]> | Record<string, string>;
  /** Up to about 48 KB. */
  body?: string | ArrayBuffer | ArrayBufferView | URLSearchParams;
  signal?: AbortSignal;
}

export interface FetchResponse {
  readonly status: number;
  /** Whether the status is from 200 to 299. */
  readonly ok: boolean;
  /** After redirects. */
  readonly url: string;
  readonly headers: FetchHeaders;
  /** The body; the same memory each time. */
  bytes(): Promise<Uint8Array>;
  arrayBuffer(): Promise<ArrayBuffer>;
  text(): Promise<string>;
  json(): Promise<any>;
}

export interface FetchHeaders extends Iterable<[string, string]> {
  get(name: string): string | null;
  has(name: string): boolean;
  entries(): IterableIterator<[string, string]>;
}

export interface Images {
  /** A PNG or JPEG as pixels. */
  decode(bytes: Uint8Array): Picture;
  /** Pixels as a PNG. */
  encode(picture: Picture, options?: { type?: "image/png" }): Uint8Array;
}

export interface Picture {
  width: number;
  height: number;
  /** RGBA, row by row. */
  data: Uint8Array | Uint8ClampedArray;
}

export interface Assets {
  /** The paths of all files, inside `assets/`. */
  list(): string[];
  /** A copy of a file's bytes. Throws if there is no such file. */
  read(path: string): Uint8Array;
}

export interface Device {
  status(): Promise<DeviceStatus>;
}

export interface DeviceStatus {
  readonly battery: "low" | "medium" | "high" | "mains";
  readonly network: "off" | "low" | "high";
  /** What the device's owner calls it. */
  readonly name: string;
}

declare global {
  /** Thrown where the manifest does not ask for what is used, or the device's owner does not allow it. */
  class PermissionError extends Error {}

  /** Needs `net` under [permissions]. */
  function fetch(resource: string | URL, init?: FetchInit): Promise<FetchResponse>;

  /** At most 4,096 timers at a time; all end with the task. */
  function setTimeout(act: (...args: any[]) => void, ms?: number, ...args: any[]): number;
  function setInterval(act: (...args: any[]) => void, ms?: number, ...args: any[]): number;
  function clearTimeout(timer?: number): void;
  function clearInterval(timer?: number): void;
  function queueMicrotask(act: () => void): void;

  function atob(base64: string): string;
  function btoa(binary: string): string;
  /** A deep copy; functions and symbols throw a DataCloneError. */
  function structuredClone<T>(value: T, options?: { transfer?: ArrayBuffer[] }): T;

  /** Writes to the task's log. */
  const console: {
    log(...values: unknown[]): void;
    info(...values: unknown[]): void;
    debug(...values: unknown[]): void;
    warn(...values: unknown[]): void;
    error(...values: unknown[]): void;
    assert(truth?: unknown, ...values: unknown[]): void;
    table(rows: unknown, columns?: string[]): void;
  };

  /** Needs `random = true` under [permissions]. Without it `Math.random` gives the same numbers in every run. */
  const crypto: {
    getRandomValues<T extends ArrayBufferView>(array: T): T;
    randomUUID(): string;
  };

  class DOMException extends Error {
    constructor(message?: string, name?: string);
    readonly name: string;
    readonly message: string;
    readonly code: number;
  }

  class TextEncoder {
    readonly encoding: "utf-8";
    encode(text?: string): Uint8Array;
  }

  /** UTF-8 only, and all bytes at once. */
  class TextDecoder {
    constructor(label?: string, options?: { fatal?: boolean; ignoreBOM?: boolean });
    readonly encoding: "utf-8";
    readonly fatal: boolean;
    readonly ignoreBOM: boolean;
    decode(bytes?: ArrayBuffer | Uint8Array): string;
  }

  class URL {
    constructor(url: string | URL, base?: string | URL);
    static canParse(url: string | URL, base?: string | URL): boolean;
    static parse(url: string | URL, base?: string | URL): URL | null;
    href: string;
    readonly origin: string;
    protocol: string;
    username: string;
    password: string;
    host: string;
    hostname: string;
    port: string;
    pathname: string;
    search: string;
    readonly searchParams: URLSearchParams;
    hash: string;
    toString(): string;
    toJSON(): string;
  }

  class URLSearchParams implements Iterable<[string, string]> {
    constructor(init?: string | [string, string][] | Iterable<[string, string]> | Record<string, string>);
    readonly size: number;
    append(name: string, value: string): void;
    delete(name: string, value?: string): void;
    get(name: string): string | null;
    getAll(name: string): string[];
    has(name: string, value?: string): boolean;
    set(name: string, value: string): void;
    sort(): void;
    forEach(act: (value: string, name: string, params: URLSearchParams) => void, self?: any): void;
    keys(): IterableIterator<string>;
    values(): IterableIterator<string>;
    entries(): IterableIterator<[string, string]>;
    toString(): string;
    [Symbol.iterator](): IterableIterator<[string, string]>;
  }

  class AbortController {
    readonly signal: AbortSignal;
    abort(reason?: any): void;
  }

  class AbortSignal {
    private constructor();
    static abort(reason?: any): AbortSignal;
    static any(signals: Iterable<AbortSignal>): AbortSignal;
    static timeout(ms: number): AbortSignal;
    readonly aborted: boolean;
    readonly reason: any;
    onabort: ((event: { type: "abort"; target: AbortSignal }) => void) | null;
    throwIfAborted(): void;
    addEventListener(
      type: "abort",
      listener: (event: { type: "abort"; target: AbortSignal }) => void,
      options?: { once?: boolean },
    ): void;
    removeEventListener(type: "abort", listener: (event: any) => void): void;
  }
}
