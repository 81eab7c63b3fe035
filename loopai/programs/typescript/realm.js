// What a program finds in its realm, and what calls it. This function's source is evaluated inside a new V8 context;
// nothing of the host's own realm may reach a program, or it could climb to the host through `constructor`. So only
// primitives pass in either direction, and whatever `host` throws is replaced on the way.

export function realm(host, hardened) {
  "use strict";
  const { apply, defineProperty, getPrototypeOf, ownKeys, getOwnPropertyDescriptor, setPrototypeOf } = Reflect;
  const { parse, stringify } = JSON;
  const { freeze, create, keys: namesOf } = Object;
  const { isArray } = Array;
  const call = Function.prototype.call;
  const uncurried = (method) => call.bind(method);
  const slice = uncurried(String.prototype.slice), trim = uncurried(String.prototype.trim);
  const includes = uncurried(String.prototype.includes);
  const charCodeAt = uncurried(String.prototype.charCodeAt), wellFormed = uncurried(String.prototype.toWellFormed);
  const sourceOf = uncurried(Function.prototype.toString);
  const execute = uncurried(RegExp.prototype.exec), emptyExpression = /(?:)/;
  const text = String, number = Number, fromCharCode = String.fromCharCode, has = Object.hasOwn;
  const mapGet = uncurried(Map.prototype.get), mapSet = uncurried(Map.prototype.set);
  const mapDelete = uncurried(Map.prototype.delete), mapClear = uncurried(Map.prototype.clear);
  const mapHas = uncurried(Map.prototype.has);

  // An error that starts in the host, a full stack above all, comes out as one of this realm.
  const bridge = (name) => {
    const across = host[name];
    return (a, b, c, d) => {
      try {
        return across(a, b, c, d);
      } catch {
        throw new RangeError("Maximum call stack size exceeded");
      }
    };
  };
  const settle = bridge("settle"), die = bridge("die"), hostStart = bridge("startTimer"), hostStop = bridge("stopTimer");
  const elapsed = bridge("elapsed"), randomBytes = bridge("randomBytes"), decode = bridge("decode");
  const hostDigest = bridge("digest");
  const parseURL = bridge("parseURL"), changeURL = bridge("changeURL");
  const parseQuery = bridge("parseQuery"), writeQuery = bridge("writeQuery");

  // Stacks would name the host's files.
  defineProperty(Error, "stackTraceLimit", { value: 0, writable: false, configurable: false });

  const LONGEST_OUTPUT = 10_000_000, LONGEST_MESSAGE = 2000;
  let exitCode, settled = true, printed = "";
  const exited = { __proto__: null };

  const finish = (kind, value) => {
    if (!settled) {
      settled = true;
      settle(kind, value);
    }
  };
  const messageOf = (error) => {
    if (error === undefined || error === null) {
      return `Cannot read properties of ${error} (reading 'message')`;
    }
    const message = error.message;
    let told = trim(typeof message === "string" ? message : inspect(message));
    if (told === "") {
      told = text(error.name);
    }
    return told.length > LONGEST_MESSAGE ? `${slice(told, 0, LONGEST_MESSAGE)} …` : told;
  };
  // An end without a result tells what the program has written to standard error, where it has.
  const ended = () => (printed !== "" ? printed : `Program exited with code ${exitCode ?? 0}`);
  const fail = (error) => {
    let told;
    try {
      told = exitCode === undefined ? messageOf(error) : "";
    } catch (another) {
      try {
        told = messageOf(another);
      } catch {
        told = "undefined";
      }
    }
    return finish("error", exitCode === undefined ? told : ended());
  };
  const succeed = (result) => {
    if (exitCode !== undefined) {
      return fail(exited);
    }
    let written;
    try {
      written = stringify(result);
    } catch (error) {
      return fail(error);
    }
    if (exitCode !== undefined) {
      return fail(exited);
    }
    if (written === undefined) {
      return finish("error", ended());
    }
    if (written.length > LONGEST_OUTPUT) {
      return finish("error", `Output is longer than ${LONGEST_OUTPUT} characters of JSON`);
    }
    return finish("value", written);
  };
  const exit = (code) => {
    const again = exitCode !== undefined;
    exitCode = code === undefined ? 0 : number(code) & 0xff;
    if (again) {
      // It caught what the first call threw: only the end of the process stops it.
      die(ended());
    }
    throw exited;
  };

  // Values as Deno shows them, roughly: on one line, and nothing of what is far down.
  let looked = 0;
  const inspect = (value, depth = 0) => {
    looked = depth === 0 ? 0 : looked + 1;
    if (looked > 1000) {
      return "…";
    }
    if (typeof value === "string") {
      return includes(value, '"') && !includes(value, "'") ? `'${value}'` : stringify(value);
    }
    if (typeof value === "bigint") {
      return `${text(value)}n`;
    }
    if (typeof value === "function") {
      const kind = execute(/^class\b/, sourceOf(value)) === null ? "Function" : "class";
      return value.name === "" ? `[${kind} (anonymous)]` : `[${kind}${kind === "class" ? "" : ":"} ${text(value.name)}]`;
    }
    if (typeof value !== "object" || value === null) {
      return Object.is(value, -0) ? "-0" : text(value);
    }
    if (value instanceof Error || value instanceof RegExp) {
      return text(value);
    }
    if (value instanceof Date) {
      return value.toISOString();
    }
    if (depth > 4) {
      return isArray(value) ? "[Array]" : "[Object]";
    }
    const parts = [];
    const add = (part) => defineProperty(parts, parts.length, { value: part, writable: true, configurable: true });
    let head = "";
    if (value instanceof Map || value instanceof Set) {
      head = `${value instanceof Map ? "Map" : "Set"}(${value.size}) `;
      value.forEach((item, key) => {
        const told = inspect(item, depth + 1);
        add(value instanceof Map ? `${inspect(key, depth + 1)} => ${told}` : told);
      });
    } else {
      const maker = getPrototypeOf(value)?.constructor?.name;
      head = maker === "Object" || maker === "Array" || typeof maker !== "string" ? "" : `${maker} `;
      const names = namesOf(value);
      for (let i = 0; i < names.length && i < 100; i++) {
        const { get, value: item } = getOwnPropertyDescriptor(value, names[i]);
        const told = get === undefined ? inspect(item, depth + 1) : "[Getter]";
        const name = execute(/^[A-Za-z_$][\w$]*$/, names[i]) === null ? stringify(names[i]) : names[i];
        add(isArray(value) ? told : `${name}: ${told}`);
      }
    }
    let all = "";
    for (let i = 0; i < parts.length; i++) {
      all += (i === 0 ? " " : ", ") + parts[i];
    }
    const inner = all === "" ? "" : `${all} `;
    return isArray(value) ? `[${inner}]` : `${head}{${inner}}`;
  };
  const shown = (value) => (typeof value === "string" ? value : inspect(value));
  const formatted = (values) => {
    let told = "", at = 1;
    const first = values.length > 0 ? shown(values[0]) : "";
    if (values.length === 1) {
      return first;
    }
    for (let i = 0; i < first.length; i++) {
      const kind = first[i] === "%" && typeof values[0] === "string" && values.length > 1 ? first[i + 1] : undefined;
      if (kind === "%" || kind === "c" || (kind !== undefined && includes("sdifoOj", kind) && at < values.length)) {
        const value = kind === "%" ? "%" : values[at++];
        const asNumber = kind === "d" || kind === "i" ? text(kind === "i" ? Math.trunc(value) : number(value)) : "";
        told += kind === "c" ? "" : kind === "%" ? "%" : asNumber !== "" ? asNumber : kind === "s" ? shown(value) : inspect(value);
        i += 1;
      } else {
        told += first[i];
      }
    }
    for (; at < values.length; at++) {
      told += ` ${shown(values[at])}`;
    }
    return told;
  };
  const print = (...values) => {
    if (printed.length < LONGEST_MESSAGE) {
      printed += `${formatted(values)}\n`;
      printed = printed.length > LONGEST_MESSAGE ? `${slice(printed, 0, LONGEST_MESSAGE)} …` : printed;
    }
  };
  const written = {
    error: print,
    warn: print,
    assert: (condition, ...values) => {
      if (!condition) {
        print(values.length === 0 ? "Assertion failed" : `Assertion failed: ${formatted(values)}`);
      }
    },
  };
  for (const name of namesOf(written)) {
    defineProperty(console, name, { value: written[name], writable: true, enumerable: true, configurable: true });
  }

  // The published driver writes the input into the source as a literal, in which __proto__ sets the prototype.
  const asLiteral = (value) => {
    if (value === null || typeof value !== "object") {
      return value;
    }
    const names = isArray(value) ? ownKeys(value) : namesOf(value);
    for (let i = 0; i < names.length; i++) {
      const name = names[i];
      if (name !== "__proto__" && name !== "length") {
        asLiteral(value[name]);
      }
    }
    if (has(value, "__proto__")) {
      const prototype = asLiteral(getOwnPropertyDescriptor(value, "__proto__").value);
      delete value.__proto__;
      if (prototype === null || typeof prototype === "object") {
        setPrototypeOf(value, prototype);
      }
    }
    return value;
  };

  // Timers: the program's functions stay in here, the host knows their numbers.
  const timers = new Map(), numbers = new Map();
  let lastTimer = 0, lastGlobal = 0;
  const startTimer = (repeats) => (callback, delay, ...values) => {
    const id = ++lastTimer;
    if (settled) {
      return id;
    }
    const wait = number(delay) || 0;
    // Numbers that the host sees never come again; those that the program sees start at 1 in each execution.
    const global = ++lastGlobal;
    mapSet(timers, id, { __proto__: null, callback, values, repeats, global });
    mapSet(numbers, global, id);
    hostStart(global, wait > 0 && wait < 2_147_483_647 ? wait : 0, repeats);
    return id;
  };
  const stopTimer = (id) => {
    const timer = mapGet(timers, number(id));
    if (timer !== undefined) {
      mapDelete(timers, number(id));
      mapDelete(numbers, timer.global);
      hostStop(timer.global);
    }
  };
  const fire = (global) => {
    const id = mapGet(numbers, global);
    const timer = mapGet(timers, id);
    if (timer === undefined) {
      return;
    }
    if (!timer.repeats) {
      mapDelete(timers, id);
      mapDelete(numbers, global);
    }
    try {
      apply(timer.callback, globalThis, timer.values);
    } catch (error) {
      fail(error);
    }
  };

  // What programs are used to find beside the language itself.
  class NotCapable extends Error {
    name = "NotCapable";
  }
  const refused = (name) =>
    function () {
      throw new NotCapable(
        `${name} is not available: programs reach no files, network, environment, system or other processes`
      );
    };
  const named = (prefix, names) => {
    const made = {};
    for (const name of names) {
      made[name] = refused(`${prefix}.${name}`);
    }
    return made;
  };
  const Deno = {
    ...named("Deno", (
      "addSignalListener bundle chdir chmod chmodSync chown chownSync connect connectTls consoleSize copyFile " +
      "copyFileSync create createHttpClient createSync cron cwd dlopen execPath fdatasync fdatasyncSync gid " +
      "hostname kill link linkSync listen listenDatagram listenTls loadavg lstat lstatSync makeTempDir " +
      "makeTempDirSync makeTempFile makeTempFileSync memoryUsage mkdir mkdirSync networkInterfaces open openKv " +
      "openSync osRelease osUptime readDir readDirSync readFile readFileSync readLink readLinkSync readTextFile " +
      "readTextFileSync realPath realPathSync refTimer remove removeSignalListener removeSync rename renameSync " +
      "resolveDns run serve serveHttp startTls stat statSync symlink symlinkSync systemMemoryInfo truncate " +
      "truncateSync uid umask unrefTimer upgradeWebSocket utime utimeSync watchFs writeFile writeFileSync " +
      "writeTextFile writeTextFileSync Command UnsafeCallback UnsafeFnPointer UnsafePointer UnsafePointerView"
    ).split(" ")),
    env: named("Deno.env", ["get", "set", "has", "delete", "toObject"]),
    stdin: named("Deno.stdin", ["read", "readSync", "close"]),
    stdout: named("Deno.stdout", ["write", "writeSync", "close"]),
    stderr: named("Deno.stderr", ["write", "writeSync", "close"]),
    permissions: named("Deno.permissions", ["query", "querySync", "request", "requestSync", "revoke", "revokeSync"]),
    errors: { NotCapable },
    inspect: (value) => inspect(value),
    args: [],
    exit,
  };
  const process = { exit, env: {}, argv: [], nextTick: (callback, ...values) => microtask(callback, values) };
  const microtask = (callback, values) => {
    if (typeof callback !== "function") {
      throw new TypeError("expected a function");
    }
    soon(callback, values);
  };
  const soon = async (callback, values) => {
    await undefined;
    try {
      apply(callback, undefined, values);
    } catch (error) {
      fail(error);
    }
  };

  class DOMException extends Error {
    #name;
    constructor(message = "", options = "Error") {
      super(text(message));
      const given = typeof options === "object" && options !== null;
      this.#name = text(given ? options.name ?? "Error" : options);
      if (given && "cause" in options) {
        defineProperty(this, "cause", { value: options.cause, writable: true, configurable: true });
      }
    }
    get name() {
      return this.#name;
    }
    get [Symbol.toStringTag]() {
      return "DOMException";
    }
    get code() {
      const at = DOM_CODES.indexOf(this.#name);
      return at < 0 ? 0 : at + 1;
    }
  }
  const DOM_CODES = (
    "IndexSizeError - HierarchyRequestError WrongDocumentError InvalidCharacterError - NoModificationAllowedError " +
    "NotFoundError NotSupportedError InUseAttributeError InvalidStateError SyntaxError InvalidModificationError " +
    "NamespaceError InvalidAccessError - TypeMismatchError SecurityError NetworkError AbortError URLMismatchError " +
    "QuotaExceededError TimeoutError InvalidNodeTypeError DataCloneError"
  ).split(" ");
  DOM_CODES.forEach((name, at) => {
    if (name !== "-") {
      const told = name.replace(/Error$/, "").replace(/([a-z])(?=[A-Z])/g, "$1_").toUpperCase();
      defineProperty(DOMException, `${told}_ERR`, { value: at + 1, enumerable: true });
    }
  });

  class TextEncoder {
    get encoding() {
      return "utf-8";
    }
    encode(source = "") {
      const written = unescape(encodeURIComponent(wellFormed(text(source))));
      const bytes = new Uint8Array(written.length);
      for (let i = 0; i < written.length; i++) {
        bytes[i] = charCodeAt(written, i);
      }
      return bytes;
    }
  }
  const bytesOf = (source) =>
    source instanceof ArrayBuffer
      ? new Uint8Array(source)
      : new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  const binary = (bytes) => {
    let made = "";
    for (let i = 0; i < bytes.length; i += 8192) {
      made += apply(fromCharCode, undefined, bytes.subarray(i, i + 8192));
    }
    return made;
  };
  class TextDecoder {
    #label;
    #fatal;
    #ignoreBOM;
    constructor(label = "utf-8", options = {}) {
      this.#label = text(label);
      this.#fatal = !!options.fatal;
      this.#ignoreBOM = !!options.ignoreBOM;
      if (decode("", this.#label, false, false) === null) {
        throw new RangeError(`The encoding label provided ('${this.#label}') is invalid.`);
      }
    }
    get encoding() {
      return this.#label;
    }
    decode(source = new Uint8Array()) {
      const read = decode(binary(bytesOf(source)), this.#label, this.#fatal, this.#ignoreBOM);
      if (read === null) {
        throw new TypeError("The encoded data is not valid");
      }
      return read;
    }
  }

  const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const btoa = (source) => {
    const data = text(source);
    let made = "";
    for (let i = 0; i < data.length; i += 3) {
      const [a, b, c] = [charCodeAt(data, i), charCodeAt(data, i + 1), charCodeAt(data, i + 2)];
      if (a > 255 || b > 255 || c > 255) {
        throw new DOMException(
          "Cannot encode string: string contains characters outside of the Latin1 range",
          "InvalidCharacterError"
        );
      }
      made += BASE64[a >> 2] + BASE64[((a & 3) << 4) | (b >> 4)];
      made += b !== b ? "==" : BASE64[((b & 15) << 2) | (c >> 6)] + (c !== c ? "=" : BASE64[c & 63]);
    }
    return made;
  };
  const atob = (source) => {
    const data = text(source).replace(/[\t\n\f\r ]/g, "").replace(/^((?:.{4})*.{2,3}?)={1,2}$/, "$1");
    if (data.length % 4 === 1 || /[^A-Za-z0-9+/]/.test(data)) {
      throw new DOMException("Failed to decode base64", "InvalidCharacterError");
    }
    let made = "", held = 0, bits = 0;
    for (let i = 0; i < data.length; i++) {
      held = (held << 6) | BASE64.indexOf(data[i]);
      bits += 6;
      if (bits >= 8) {
        bits -= 8;
        made += fromCharCode((held >> bits) & 255);
        held &= (1 << bits) - 1;
      }
    }
    return made;
  };

  class URLSearchParams {
    #pairs = [];
    #changed = () => {};
    constructor(source = "", changed) {
      if (typeof changed === "function") {
        this.#changed = changed;
      }
      if (typeof source === "object" && source !== null) {
        const pairs = Symbol.iterator in source ? [...source] : Object.entries(source);
        this.#pairs = pairs.map(([name, value]) => [text(name), text(value)]);
      } else {
        this.#pairs = parse(parseQuery(text(source)));
      }
    }
    get size() {
      return this.#pairs.length;
    }
    get(name) {
      const found = this.#pairs.find((pair) => pair[0] === text(name));
      return found === undefined ? null : found[1];
    }
    getAll(name) {
      return this.#pairs.filter((pair) => pair[0] === text(name)).map((pair) => pair[1]);
    }
    has(name, value) {
      return this.#pairs.some((pair) => pair[0] === text(name) && (value === undefined || pair[1] === text(value)));
    }
    append(name, value) {
      this.#pairs.push([text(name), text(value)]);
      this.#changed(this.toString());
    }
    delete(name, value) {
      this.#pairs = this.#pairs.filter(
        (pair) => pair[0] !== text(name) || (value !== undefined && pair[1] !== text(value))
      );
      this.#changed(this.toString());
    }
    set(name, value) {
      const place = this.#pairs.findIndex((pair) => pair[0] === text(name));
      const kept = this.#pairs.filter((pair, at) => pair[0] !== text(name) || at === place);
      this.#pairs = kept.map((pair) => (pair[0] === text(name) ? [pair[0], text(value)] : pair));
      if (place < 0) {
        this.#pairs.push([text(name), text(value)]);
      }
      this.#changed(this.toString());
    }
    sort() {
      this.#pairs.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
      this.#changed(this.toString());
    }
    forEach(callback, receiver) {
      this.#pairs.forEach(([name, value]) => apply(callback, receiver, [value, name, this]));
    }
    *entries() {
      yield* this.#pairs.map((pair) => [...pair]);
    }
    *keys() {
      yield* this.#pairs.map((pair) => pair[0]);
    }
    *values() {
      yield* this.#pairs.map((pair) => pair[1]);
    }
    [Symbol.iterator]() {
      return this.entries();
    }
    toString() {
      return writeQuery(stringify(this.#pairs));
    }
  }
  class URL {
    #parts;
    #query;
    constructor(address, against) {
      const parts = parseURL(text(address), against === undefined ? "" : text(against), against !== undefined);
      if (parts === "") {
        throw new TypeError(`Invalid URL: '${text(address)}'`);
      }
      this.#parts = parse(parts);
    }
    static canParse(address, against) {
      return parseURL(text(address), against === undefined ? "" : text(against), against !== undefined) !== "";
    }
    static parse(address, against) {
      return URL.canParse(address, against) ? new URL(address, against) : null;
    }
    static part(url, name) {
      return url.#parts[name];
    }
    static change(url, name, value) {
      const parts = changeURL(url.#parts.href, name, text(value));
      if (parts === "") {
        throw new TypeError(`Invalid URL: '${text(value)}'`);
      }
      url.#parts = parse(parts);
      if (name === "href" || name === "search") {
        url.#query = undefined;
      }
    }
    get searchParams() {
      if (this.#query === undefined) {
        const change = URL_change;
        this.#query = new URLSearchParams(this.#parts.search, (query) => {
          const kept = this.#query;
          change(this, "search", query);
          this.#query = kept;
        });
      }
      return this.#query;
    }
    toString() {
      return this.#parts.href;
    }
    toJSON() {
      return this.#parts.href;
    }
  }
  const URL_change = URL.change, URL_part = URL.part;
  delete URL.change;
  delete URL.part;
  for (const name of "href protocol username password host hostname port pathname search hash".split(" ")) {
    defineProperty(URL.prototype, name, {
      get() {
        return URL_part(this, name);
      },
      set(value) {
        URL_change(this, name, value);
      },
      enumerable: true,
      configurable: true,
    });
  }
  defineProperty(URL.prototype, "origin", {
    get() {
      return URL_part(this, "origin");
    },
    enumerable: true,
    configurable: true,
  });

  const structuredClone = (value, seen = new Map()) => {
    if (typeof value === "function" || typeof value === "symbol") {
      throw new DOMException(`${text(value)} could not be cloned.`, "DataCloneError");
    }
    if (typeof value !== "object" || value === null) {
      return value;
    }
    if (mapHas(seen, value)) {
      return mapGet(seen, value);
    }
    const keep = (made) => {
      mapSet(seen, value, made);
      return made;
    };
    if (value instanceof Date) {
      return keep(new Date(value.getTime()));
    }
    if (value instanceof RegExp) {
      return keep(new RegExp(value.source, value.flags));
    }
    if (value instanceof Boolean || value instanceof Number || value instanceof String) {
      return keep(Object(value.valueOf()));
    }
    if (value instanceof ArrayBuffer) {
      return keep(value.slice(0));
    }
    if (value instanceof SharedArrayBuffer) {
      return keep(value);
    }
    for (const kind of [Promise, WeakMap, WeakSet, WeakRef]) {
      if (value instanceof kind) {
        throw new DOMException(`#<${kind.name}> could not be cloned.`, "DataCloneError");
      }
    }
    if (ArrayBuffer.isView(value)) {
      return keep(
        value instanceof DataView ? new DataView(value.buffer.slice(0), value.byteOffset, value.byteLength) : value.slice()
      );
    }
    if (value instanceof Map) {
      const made = keep(new Map());
      value.forEach((item, key) => made.set(structuredClone(key, seen), structuredClone(item, seen)));
      return made;
    }
    if (value instanceof Set) {
      const made = keep(new Set());
      value.forEach((item) => made.add(structuredClone(item, seen)));
      return made;
    }
    if (value instanceof Error) {
      const made = keep(create(getPrototypeOf(value)));
      for (const name of ["message", "cause"]) {
        if (has(value, name)) {
          defineProperty(made, name, { value: structuredClone(value[name], seen), writable: true, configurable: true });
        }
      }
      return made;
    }
    const made = keep(isArray(value) ? new Array(value.length) : {});
    for (const name of namesOf(value)) {
      defineProperty(made, name, {
        value: structuredClone(value[name], seen),
        writable: true,
        enumerable: true,
        configurable: true,
      });
    }
    return made;
  };

  const crypto = {
    getRandomValues(view) {
      if (!ArrayBuffer.isView(view) || execute(/^(?:Big)?(?:Ui|I)nt/, view[Symbol.toStringTag] ?? "") === null) {
        throw new DOMException("The provided value is not an integer-type TypedArray", "TypeMismatchError");
      }
      const bytes = bytesOf(view);
      if (bytes.length > 65536) {
        throw new RangeError("The requested length exceeds 65536 bytes");
      }
      const drawn = randomBytes(bytes.length);
      for (let i = 0; i < bytes.length; i++) {
        bytes[i] = charCodeAt(drawn, i);
      }
      return view;
    },
    randomUUID() {
      const bytes = crypto.getRandomValues(new Uint8Array(16));
      bytes[6] = (bytes[6] & 15) | 64;
      bytes[8] = (bytes[8] & 63) | 128;
      let made = "";
      for (let i = 0; i < 16; i++) {
        made += (i === 4 || i === 6 || i === 8 || i === 10 ? "-" : "") + (bytes[i] + 256).toString(16).slice(1);
      }
      return made;
    },
  };

  // The host computes, and calls back.
  const digests = new Map();
  let lastDigest = 0;
  crypto.subtle = {
    digest: (algorithm, data) =>
      new Promise((resolve, reject) => {
        const name = text(typeof algorithm === "object" && algorithm !== null ? algorithm.name : algorithm);
        if (execute(/^SHA-(?:1|256|384|512)$/i, name) === null) {
          throw new DOMException(`Algorithm '${name}' is not supported`, "NotSupportedError");
        }
        const id = ++lastDigest;
        mapSet(digests, id, resolve);
        hostDigest(id, name, binary(bytesOf(data)));
      }),
  };
  const digested = (id, bytes) => {
    const resolve = mapGet(digests, id);
    mapDelete(digests, id);
    if (resolve !== undefined) {
      const made = new Uint8Array(bytes.length);
      for (let i = 0; i < bytes.length; i++) {
        made[i] = charCodeAt(bytes, i);
      }
      resolve(made.buffer);
    }
  };

  const additions = {
    Deno,
    process,
    URL,
    URLSearchParams,
    TextEncoder,
    TextDecoder,
    atob,
    btoa,
    structuredClone: (value, options) => {
      const made = structuredClone(value);
      for (const each of options?.transfer ?? []) {
        each.transfer();
      }
      return made;
    },
    crypto,
    DOMException,
    performance: { now: () => elapsed() },
    setTimeout: startTimer(false),
    setInterval: startTimer(true),
    setImmediate: (callback, ...values) => additions.setTimeout(callback, 0, ...values),
    clearTimeout: stopTimer,
    clearInterval: stopTimer,
    clearImmediate: stopTimer,
    queueMicrotask: (callback) => microtask(callback, []),
    fetch: async () => refused("fetch")(),
    close: () => exit(0),
    self: globalThis,
    global: globalThis,
  };
  for (const name of namesOf(additions)) {
    defineProperty(globalThis, name, { value: additions[name], writable: true, enumerable: false, configurable: true });
  }
  // Compiled code, and waiting in a way that nothing here would notice.
  delete globalThis.WebAssembly;
  delete Atomics.waitAsync;

  if (hardened) {
    harden();
  }

  // A hardened realm serves one execution after the other, and none can leave anything in it. A program that needs
  // to change what is frozen is noticed by its error, and gets realms of its own.
  function harden() {
    const todo = [globalThis], done = new Set();
    const roots = [
      [][Symbol.iterator](),
      new Map()[Symbol.iterator](),
      new Set()[Symbol.iterator](),
      ""[Symbol.iterator](),
      "a".matchAll(/a/g),
      Iterator.from({ next() {} }),
      [].values().map((item) => item),
      function* () {},
      async function () {},
      async function* () {},
      (async function* () {})(),
      (function* () {})(),
      new Intl.Segmenter().segment("a"),
      new Intl.Segmenter().segment("a")[Symbol.iterator](),
      Uint8Array,
    ];
    for (const root of roots) {
      for (let at = getPrototypeOf(root); at !== null; at = getPrototypeOf(at)) {
        todo.push(at);
      }
    }
    while (todo.length > 0) {
      const thing = todo.pop();
      if ((typeof thing !== "object" && typeof thing !== "function") || thing === null || done.has(thing)) {
        continue;
      }
      done.add(thing);
      todo.push(getPrototypeOf(thing));
      for (const name of ownKeys(thing)) {
        const { value, get, set } = getOwnPropertyDescriptor(thing, name);
        todo.push(value, get, set);
      }
    }
    const prototypes = new Set();
    for (const thing of done) {
      if (typeof thing === "function" && has(thing, "prototype")) {
        prototypes.add(thing.prototype);
      }
    }
    for (const thing of done) {
      if (thing === Object.prototype || thing instanceof Error || thing === Error.prototype) {
        ownKeys(thing).forEach((name) => keepAssignable(thing, name));
      } else if (prototypes.has(thing)) {
        ["constructor", "toString", "valueOf", "name"].forEach((name) => keepAssignable(thing, name));
      }
    }
    done.forEach(freeze);
  }

  // An object that inherits a frozen property could not be given one of its own by assignment; with this it can.
  function keepAssignable(owner, name) {
    const held = getOwnPropertyDescriptor(owner, name);
    if (held === undefined || !has(held, "value") || !held.configurable) {
      return;
    }
    const { value, enumerable } = held;
    defineProperty(owner, name, {
      get: () => value,
      set(assigned) {
        if (this === owner || (typeof this !== "object" && typeof this !== "function") || this === null) {
          throw new TypeError(`Cannot assign to read only property '${text(name)}' of object`);
        }
        defineProperty(this, name, { value: assigned, writable: true, enumerable: true, configurable: true });
      },
      enumerable,
      configurable: false,
    });
    freeze(getOwnPropertyDescriptor(owner, name).get);
    freeze(getOwnPropertyDescriptor(owner, name).set);
  }

  const metaOf = () => ({
    __proto__: null,
    main: true,
    url: "file:///program.ts",
    filename: "/program.ts",
    dirname: "/",
    resolve: refused("import.meta.resolve"),
  });
  const later = async (result) => {
    try {
      succeed(await result);
    } catch (error) {
      fail(error);
    }
  };
  const start = (program, written) => {
    settled = false;
    exitCode = undefined;
    printed = "";
    lastTimer = 0;
    mapClear(timers);
    mapClear(numbers);
    mapClear(digests);
    apply(execute, undefined, [emptyExpression, ""]); // so that RegExp.$1 tells nothing of the execution before
    let result, waits = false;
    try {
      let input = parse(written);
      if (includes(written, "__proto__")) {
        input = asLiteral(input);
      }
      result = program(input, metaOf());
      waits =
        result !== null &&
        (typeof result === "object" || typeof result === "function") &&
        typeof result.then === "function";
    } catch (error) {
      return fail(error);
    }
    if (waits) {
      later(result);
      return undefined;
    }
    return succeed(result);
  };
  const abandon = () => {
    settled = true;
    mapClear(timers);
    mapClear(numbers);
    mapClear(digests);
  };
  return { __proto__: null, start, fire, digested, fail, abandon };
}
