// Runs programs: one request at a time from standard input, replies on standard output. Deno starts this without any
// permission; programs run in V8 contexts that have neither Deno nor modules (see realm.js).
//
// A frame is its length (4 bytes, little endian) and that many bytes. A request is a frame of JSON and `count` frames
// with an input each; a reply is a frame an input (its kind, its milliseconds, its text) and one that says "ready".
// "again" says that the time of the next input starts anew.

import { stripTypeScriptTypes } from "node:module";
import { clearInterval, clearTimeout, setImmediate, setInterval, setTimeout } from "node:timers";
import vm from "node:vm";
import { realm } from "./realm.js";

const stdin = Deno.stdin, stdout = Deno.stdout, leave = Deno.exit.bind(Deno);
// Internal to Deno. A version without it runs a turn of the event loop for each execution instead.
const runMicrotasks = Deno[Deno.internal]?.core?.runMicrotasks;
const clock = performance.now.bind(performance);
const digest = crypto.subtle.digest.bind(crypto.subtle);
const random = crypto.getRandomValues.bind(crypto);
const { URL, URLSearchParams, TextDecoder, TextEncoder, Uint8Array, DataView, Map, addEventListener, btoa } = globalThis;
const encoder = new TextEncoder(), decoder = new TextDecoder();

const KINDS = { value: 0, error: 1, timeout: 2, ready: 3, loaded: 4, again: 5 };
// Errors of a program that a fresh realm has confirmed before they are believed at once.
const ENOUGH_CONFIRMED = 20;
// A turn of the event loop that executes one input after the other. Unhandled rejections are kept until its end.
const LONGEST_TURN_MS = 10;

// Frames

let held = new Uint8Array(65536), start = 0, end = 0;

function fill(wanted) {
  if (held.length - start < wanted) {
    const larger = wanted > held.length ? new Uint8Array(wanted * 2) : held;
    larger.set(held.subarray(start, end));
    [held, start, end] = [larger, 0, end - start];
  }
  while (end - start < wanted) {
    const count = stdin.readSync(held.subarray(end));
    if (count === null) {
      leave(0);
    }
    end += count;
  }
}

function readFrame() {
  fill(4);
  const length = held[start] + held[start + 1] * 0x100 + held[start + 2] * 0x1_0000 + held[start + 3] * 0x100_0000;
  start += 4;
  fill(length);
  const read = decoder.decode(held.subarray(start, start + length));
  start += length;
  if (start === end) {
    start = end = 0;
    if (held.length > 1_048_576) {
      held = new Uint8Array(65536);
    }
  }
  return read;
}

// Most replies fit in, and need no buffer of their own.
const reply = new Uint8Array(65536), replyHead = new DataView(reply.buffer), replyBody = reply.subarray(13);

function writeFrame(kind, ms, text) {
  // A character takes at most three bytes.
  const body = text.length * 3 > replyBody.length ? encoder.encode(text) : null;
  const length = body === null ? encoder.encodeInto(text, replyBody).written : body.length;
  replyHead.setUint32(0, 9 + length, true);
  replyHead.setUint8(4, KINDS[kind]);
  replyHead.setFloat64(5, ms, true);
  if (body === null) {
    write(reply.subarray(0, 13 + length));
  } else {
    write(reply.subarray(0, 13));
    write(body);
  }
}

function write(bytes) {
  for (let sent = stdout.writeSync(bytes); sent < bytes.length; ) {
    sent += stdout.writeSync(bytes.subarray(sent));
  }
}

// Realms

let current = null; // the execution under way, see `begin`

const turn = () => new Promise((resolve) => setImmediate(resolve));
const binary = (bytes) => Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
const bytesOf = (text) => {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) {
    bytes[i] = text.charCodeAt(i);
  }
  return bytes;
};
const parts = (url) => {
  const { href, origin, protocol, username, password, host, hostname, port, pathname, search, hash } = url;
  return JSON.stringify({ href, origin, protocol, username, password, host, hostname, port, pathname, search, hash });
};

const SERVICES = {
  settle(kind, text) {
    if (current !== null && !current.settled) {
      current.settled = true;
      current.kind = kind;
      current.text = text;
      current.resolve?.();
    }
  },
  die(text) {
    writeFrame("error", clock() - current.began, text);
    leave(0);
  },
  elapsed: () => (current === null ? 0 : clock() - current.began),
  startTimer(id, delay, repeats) {
    const run = current;
    const fired = () => {
      if (!repeats) {
        run.timers.delete(id);
      }
      run.driver.fire(id);
      watch(run);
    };
    run.timers.set(id, repeats ? setInterval(fired, delay) : setTimeout(fired, delay));
  },
  stopTimer(id) {
    const timer = current.timers.get(id);
    clearTimeout(timer);
    clearInterval(timer);
    current.timers.delete(id);
  },
  digest(id, algorithm, bytes) {
    const run = current;
    const waiting = `digest ${id}`;
    run.timers.set(waiting, undefined);
    digest(algorithm, bytesOf(bytes)).then((made) => {
      if (run.timers.delete(waiting)) {
        run.driver.digested(id, binary(new Uint8Array(made)));
        watch(run);
      }
    });
  },
  randomBytes: (count) => binary(random(new Uint8Array(count))),
  decode(bytes, label, fatal, ignoreBOM) {
    try {
      return new TextDecoder(label, { fatal, ignoreBOM }).decode(bytesOf(bytes));
    } catch {
      return null;
    }
  },
  parseURL(address, against, relative) {
    const url = relative ? URL.parse(address, against) : URL.parse(address);
    return url === null ? "" : parts(url);
  },
  changeURL(address, name, value) {
    const url = new URL(address);
    try {
      url[name] = value;
    } catch {
      return "";
    }
    return parts(url);
  },
  parseQuery: (text) => JSON.stringify([...new URLSearchParams(text)]),
  writeQuery: (pairs) => new URLSearchParams(JSON.parse(pairs)).toString(),
};
// Where sources are read as modules, to see whether they are any; nothing runs in it.
const READING = vm.createContext(vm.constants.DONT_CONTEXTIFY);
const SETTING_UP = new vm.Script(`(${realm})`, { filename: "realm" });

function newRealm(hardened) {
  const context = vm.createContext(vm.constants.DONT_CONTEXTIFY);
  return { context, driver: SETTING_UP.runInContext(context)(SERVICES, hardened) };
}

// What a program leaves unhandled ends its execution, as it would end a process of its own.
for (const [event, read] of [["unhandledrejection", (e) => e.reason], ["error", (e) => e.error]]) {
  addEventListener(event, (told) => {
    told.preventDefault();
    if (current !== null && !current.settled) {
      current.driver.fail(read(told));
    }
  });
}

// Programs

const programs = new Map(); // number → what `load` returns

// Evaluated first in a module that must not run: it fails, and what imports it is never evaluated.
const GUARD = "import 'data:text/javascript,throw 0';";

// Why the source is not one that can be read, and where; null where there is nothing wrong with it.
async function complaint(source, language) {
  try {
    await import(`data:application/${language};base64,${btoa(binary(encoder.encode(GUARD + source)))}`);
  } catch (error) {
    const told = typeof error === "object" && error !== null ? String(error.message) : "";
    const at = / at data:[^\s]*?:(\d+):(\d+)/.exec(told);
    if (at !== null) {
      const line = Number(at[1]);
      const column = Number(at[2]) - (line === 1 ? GUARD.length : 0);
      const reason = told.slice(0, at.index).split("\n")[0].replace(/^SyntaxError: /, "").trim();
      return { reason, line, column };
    }
  }
  return null;
}

const refusal = ({ reason, line, column }) => `SyntaxError: ${reason} (line ${line}, column ${column})`;

class Refused extends Error {}

function stripped(source) {
  try {
    return stripTypeScriptTypes(source, { mode: "strip" });
  } catch {
    return stripTypeScriptTypes(source, { mode: "transform" });
  }
}

function offsetOf(source, line, column) {
  let offset = 0;
  for (let at = 1; at < line; at++) {
    offset = source.indexOf("\n", offset) + 1;
  }
  return offset + column - 1;
}

// Each is found by reading the whole source once more, which takes milliseconds, but for those that stand at the start
// of a line where no text can go over lines.
const MOST_EXPORTS = 100;
const DECLARED = /^([ \t]*)export(?=\s+(?:async\s+function|function|const|let|var|class)\b)/gm;

// The body of a function has no exports; what they export is declared all the same.
async function withoutExports(source) {
  const head = "async()=>{";
  if (!/`|\\\r?\n/.test(source)) {
    source = source.replace(DECLARED, "$1      ");
  }
  for (let count = 0; /\b(?:export|import)\b/.test(source); count++) {
    if (count > MOST_EXPORTS) {
      throw new Refused(`SyntaxError: a program may have ${MOST_EXPORTS} exports`);
    }
    const found = await complaint(`${head}${source}\n}`, "javascript");
    if (found === null) {
      return source;
    }
    if (found.line === 1) {
      found.column -= head.length;
    }
    const offset = offsetOf(source, found.line, found.column);
    const rest = source.slice(offset);
    if (/^import\b/.test(rest) || /^export\s*(?:\*|(?:type\s*)?\{[^}]*\}\s*from\b)/.test(rest)) {
      throw new Refused(refusal({ ...found, reason: "programs cannot import modules" }));
    }
    if (!/^export\b/.test(rest)) {
      return source;
    }
    let left = rest.slice(6);
    if (/^\s*default\b/.test(left)) {
      left = left.replace(/^\s*default\b/, (word) => word.replace("default", "       "));
      if (!/^\s*(?:(?:async\s+)?function\s*\*?\s*[\w$]|class\s+(?!extends\b)[\w$])/.test(left)) {
        left = `0, ${left.trimStart()}`;
      }
    } else {
      left = left.replace(/^\s*\{[^}]*\}/, (list) => list.replace(/[^\n]/g, " "));
    }
    source = `${source.slice(0, offset)}      ${left}`;
  }
  return source;
}

// Only modules have `import.meta`. Whether it stands in a text or a comment tells what another word in its place does.
async function withoutMeta(source) {
  const all = [...source.matchAll(/\bimport\s*\.\s*meta\b/g)].slice(0, MOST_EXPORTS);
  for (const { 0: found, index } of all.reverse()) {
    const [before, after] = [source.slice(0, index), source.slice(index + found.length)];
    if ((await complaint(`async()=>{${before}import.none${after}\n}`, "javascript")) !== null) {
      source = `${before}__meta${after}`;
    }
  }
  return source;
}

async function compiled(source, result) {
  let script;
  try {
    script = stripped(source);
  } catch (error) {
    const found = await complaint(source, "typescript");
    throw new Refused(found === null ? `SyntaxError: ${String(error.message).split("\n")[0]}` : refusal(found));
  }
  try {
    new vm.SourceTextModule(`const input = 0; ${script}`, { context: READING });
  } catch (error) {
    const found = await complaint(`const input = 0; ${script}`, "javascript");
    if (found !== null && found.line === 1) {
      found.column -= "const input = 0; ".length;
    }
    const decorator = /(?:^|[\s{;])@(?=[\w$(])/.exec(source);
    if (decorator !== null && found?.reason === "Invalid or unexpected token") {
      const before = source.slice(0, decorator.index + decorator[0].length).split("\n");
      const place = { line: before.length, column: before[before.length - 1].length };
      throw new Refused(refusal({ reason: "decorators are not supported", ...place }));
    }
    throw new Refused(found === null ? `SyntaxError: ${error.message}` : refusal(found));
  }
  script = await withoutMeta(await withoutExports(script));
  // Not an arrow function, in which `this` would be the global object, and not undefined as in a module.
  const kind = /\bawait\b/.test(script) ? "async function" : "function";
  const wrapped = `"use strict"; (${kind} (__input, __meta) { const input = __input;\n${script}\nreturn ${result}; })`;
  return new vm.Script(wrapped, { filename: "program" });
}

async function load(source) {
  try {
    const script = await compiled(source, "main(input)");
    // `dirty`: each execution needs a realm of its own. `waits`: an execution has waited, so each has turns of its own.
    return { source, script, realm: null, dirty: false, waits: false, confirmed: 0, refused: null };
  } catch (error) {
    // What reads as a module and not as a function's body is rare, and refused in V8's words.
    return { refused: error instanceof Refused ? error.message : `SyntaxError: ${error.message}` };
  }
}

function place(program, hardened) {
  const made = newRealm(hardened);
  return { driver: made.driver, run: program.script.runInContext(made.context) };
}

// Executions

// A promise that is still open when nothing is left to run will stay open.
function watch(run) {
  setImmediate(() => {
    if (current === run && !run.settled && run.timers.size === 0) {
      SERVICES.settle("error", "main never settles: its promise is pending and nothing is left to run");
    }
  });
}

function begin(where, input) {
  const run = { began: clock(), settled: false, kind: "", text: "", resolve: null, timers: new Map(), driver: where.driver };
  current = run;
  try {
    where.driver.start(where.run, input);
  } catch {
    // The driver itself had no stack left to work on.
    SERVICES.settle("error", "Maximum call stack size exceeded");
  }
  return run;
}

function abandon(run) {
  run.timers.forEach((timer) => {
    clearTimeout(timer);
    clearInterval(timer);
  });
  run.timers.clear();
  run.driver.abandon();
}

async function settlement(run, limit) {
  let late;
  if (!run.settled) {
    const settled = new Promise((resolve) => {
      run.resolve = resolve;
    });
    late = setTimeout(() => SERVICES.settle("timeout", ""), limit);
    watch(run);
    await settled;
    clearTimeout(late);
  }
  abandon(run);
  // What the execution left in the queue runs now, so that it holds up nobody but itself.
  await turn();
}

async function executeInFresh(program, input, limit) {
  const where = place(program, false);
  // Timers count from the start of a turn, and a realm takes milliseconds to make.
  await turn();
  const run = begin(where, input);
  await settlement(run, limit);
  return run;
}

async function execute(program, input, limit) {
  if (program.dirty) {
    return await executeInFresh(program, input, limit);
  }
  const run = begin(program.realm, input);
  await settlement(run, limit);
  if (run.kind === "error" && program.confirmed < ENOUGH_CONFIRMED) {
    return await confirmed(program, run, input, limit);
  }
  return run;
}

// Executes the inputs from position `first` on in one turn of the event loop, and replies to each. Stops before one that
// waits for something, and at one that fails while errors are not yet believed. Returns where, and the run that failed.
//
// What an execution leaves in the queue of microtasks runs before the next one. Unhandled rejections are reported at the
// next turn, when no execution is in progress that they could end: so a turn has to follow.
const executeInOneTurn = (program, inputs, first) =>
  new Promise((resolve) => {
    setImmediate(() => {
      const began = clock();
      let at = first;
      for (; at < inputs.length && clock() - began < LONGEST_TURN_MS; at++) {
        const run = begin(program.realm, inputs[at]);
        runMicrotasks();
        program.waits = !run.settled;
        run.settled = true;
        abandon(run);
        if (program.waits) {
          break;
        }
        if (run.kind === "error" && program.confirmed < ENOUGH_CONFIRMED) {
          return resolve({ at, failed: run });
        }
        writeFrame(run.kind, clock() - run.began, run.text);
      }
      return resolve({ at, failed: null });
    });
  });

// An error may come of what is frozen in the realm: in a fresh one, that nobody else uses, the program may do anything.
async function confirmed(program, first, input, limit) {
  const run = await executeInFresh(program, input, limit);
  if (run.kind === first.kind && run.text === first.text) {
    program.confirmed += 1;
  } else {
    program.dirty = true;
    program.realm = null;
  }
  return run;
}

async function executeAll(program, inputs, limit) {
  for (let at = 0; at < inputs.length; ) {
    if (runMicrotasks === undefined || program.dirty || program.waits) {
      const began = clock();
      const run = await execute(program, inputs[at], limit);
      writeFrame(run.kind, clock() - began, run.text);
      at += 1;
      continue;
    }
    let failed;
    ({ at, failed } = await executeInOneTurn(program, inputs, at));
    await turn();
    if (failed !== null) {
      const run = await confirmed(program, failed, inputs[at], limit);
      writeFrame(run.kind, clock() - failed.began, run.text);
      at += 1;
    } else if (program.waits) {
      // This input is executed again, with its whole time.
      writeFrame("again", 0, "");
    }
  }
}

// Whether there is a `main`, which takes running what stands around it. That may fail without an input of its own.
async function checked(program, limit) {
  if (program.refused !== null) {
    return ["error", 0, program.refused];
  }
  const run = await executeInFresh({ script: await compiled(program.source, "typeof main") }, "{}", limit);
  const missing = run.kind === "value" && run.text !== '"function"';
  const kind = missing ? JSON.parse(run.text) : "";
  const reason = kind === "undefined" ? "main is not defined" : `main is not a function but of type ${kind}`;
  return missing ? ["error", 0, reason] : ["value", 0, "true"];
}

async function serve() {
  writeFrame("ready", 0, "");
  for (;;) {
    const request = JSON.parse(readFrame());
    const inputs = [];
    for (let i = 0; i < request.count; i++) {
      inputs.push(readFrame());
    }
    for (const number of request.forget) {
      programs.delete(number);
    }
    if (request.code !== undefined) {
      const made = await load(request.code);
      if (made.refused === null) {
        made.realm = place(made, true);
      }
      programs.set(request.program, made);
      writeFrame("loaded", 0, "");
    }
    const program = programs.get(request.program);
    if (request.check) {
      writeFrame(...(await checked(program, request.limit)));
    }
    if (program.refused === null) {
      await executeAll(program, inputs, request.limit);
    } else {
      inputs.forEach(() => writeFrame("error", 0, program.refused));
    }
    current = null;
    writeFrame("ready", 0, "");
  }
}

// Should a program ever get hold of something of this realm, there is nothing to be found in it.
for (const name of Object.getOwnPropertyNames(globalThis)) {
  const kept = ["globalThis", "Object", "Array", "JSON", "String", "Number", "Promise", "RegExp", "Error", "Reflect", "Math"];
  if (!kept.includes(name) && Object.getOwnPropertyDescriptor(globalThis, name).configurable) {
    delete globalThis[name];
  }
}
for (const maker of [function () {}, async function () {}, function* () {}, async function* () {}]) {
  Object.defineProperty(Object.getPrototypeOf(maker), "constructor", { value: undefined });
}

await serve();
