"""Programs in TypeScript under ordinary use: the published server's conventions, freshness, batches, processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

if sys.version_info < (3, 10):
    pytest.skip("the sandbox needs Python 3.10", allow_module_level=True)
pytest.importorskip("deno")

from loopai.exceptions import ConfigurationError
from loopai.programs import Program, ProgramOutcome, ProgramPool
from loopai.programs.typescript import process

DOUBLE = "function main(input: number): number { return input * 2 }"


def ts(code: str) -> Program:
    return Program(code, "typescript")


@pytest.fixture(scope="module")
def pool() -> Iterator[ProgramPool]:
    with ProgramPool(processes=2) as pool:
        yield pool


def deno_processes() -> set[int]:
    """The Deno processes that this process has started and that still run."""
    return {
        child.pid
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and "deno" in child.name()
    }


@pytest.mark.parametrize("language", ["typescript", "TypeScript", "javascript"])
def test_a_program_runs_and_its_time_is_told(pool: ProgramPool, language: str) -> None:
    """JavaScript is TypeScript without types; the language's name is read in any case."""
    outcome = pool.run(Program("function main(input) { return {got: input} }", language), [1])
    assert (outcome.output, outcome.error) == ({"got": [1]}, None)
    assert 0 < outcome.latency_ms < 5000


CONVENTIONS: dict[str, tuple[str, Any, Any]] = {
    "plain": ("function main(input) { return input }", {"a": 1}, {"a": 1}),
    "async": ("async function main(input) { return await Promise.resolve(input + 1) }", 1, 2),
    "arrow": ("const main = (input: number) => input + 1", 1, 2),
    "thenable": ("function main(i) { return {then(f: any) { f(i + 1) }} }", 1, 2),
    "input at the top": ("const half = input / 2; function main() { return half }", 4, 2),
    "await at the top": ("const x = await Promise.resolve(input); function main() { return x + 1 }", 4, 5),
    "await of a function at the top": ("const x = await (async () => 5)(); function main() { return x }", 4, 5),
    "types": (
        "interface A { x: number }\ntype B = A & { y?: string };\nfunction main(i: A): B { return <B>{...i, y: 'z'} as B }",
        {"x": 1},
        {"x": 1, "y": "z"},
    ),
    "wrong types": ("function main(input: number): string { return input }", {"a": 1}, {"a": 1}),
    "generics": (
        "function id<T extends unknown>(x: T): T { return x }\nfunction main(i) { return id<number>(i) }",
        3,
        3,
    ),
    "satisfies": ("function main(i) { return {a: 1} satisfies Record<string, number> }", 3, {"a": 1}),
    "enum": ("enum Label { Spam = 'spam', Ham = 'ham' }\nfunction main() { return Label.Ham }", 0, "ham"),
    "number enum": ("enum N { A, B }\nfunction main() { return [N.B, N[1]] }", 0, [1, "B"]),
    "const enum": ("const enum N { A = 3 }\nfunction main() { return N.A }", 0, 3),
    "namespace": ("namespace N { export const x = 4 }\nfunction main() { return N.x }", 0, 4),
    "parameter property": (
        "class P { constructor(private x: number, readonly y = 2) {} sum() { return this.x + this.y } }\n"
        "function main(i) { return new P(i).sum() }",
        3,
        5,
    ),
    "private fields": ("class P { #x = 1; get x() { return this.#x } }\nfunction main() { return new P().x }", 0, 1),
    "export function": ("export function main(input) { return input }", 1, 1),
    "export async": ("export async function main(input) { return input }", 1, 1),
    "export const": ("export const main = (input) => input", 1, 1),
    "export default": ("export default function main(input) { return input }", 1, 1),
    "export default class": ("export default class A {}\nfunction main() { return new A() }", 1, {}),
    "export anonymous": ("function main() { return 1 }\nexport default function () {}", 1, 1),
    "export default value": ("function main() { return 1 }\nexport default {main};", 1, 1),
    "export list": ("function main() { return 1 }\nconst x = 2\nexport { main, x as y };", 1, 1),
    "export type": ("export type A = number;\nexport interface B {}\nexport function main() { return 1 }", 1, 1),
    "several exports": (
        "export const a = 1;\nexport const b = 2, c = 3;\nexport function main() { return a + b + c }",
        1,
        6,
    ),
    "hundreds of exports": (
        "".join(f"export const v{n} = {n};\n" for n in range(400)) + "export function main() { return v399 }",
        1,
        399,
    ),
    "export in a continued text": (
        "function main() { return 'a\\\nexport const x' + `\nexport const y` }",
        1,
        "aexport const x\nexport const y",
    ),
    "export enum": ("export enum L { A = 'a' }\nexport function main() { return L.A }", 1, "a"),
    "export in a text": (
        "function main() { return `\nexport const x = 1` + 'export' + /export/.source }",
        1,
        "\nexport const x = 1exportexport",
    ),
    "export as a name": ("const o = {export: 1, import: 2};\nfunction main() { return o.export + o.import }", 1, 3),
    "import of a type": ("import type { X } from './x.ts';\nfunction main(i: X) { return i }", 1, 1),
    "comment at the end": ("function main() { return 1 } // }", 1, 1),
    "import.meta": (
        "function main(i) { return [import.meta.main, 'import.meta', /import.meta/.source, typeof import.meta.url] } // import.meta\n"
        "if (import.meta.main) console.log(main(input))",
        1,
        [True, "import.meta", "import.meta", "string"],
    ),
    "this": ("const t = typeof this; const main = () => [t, typeof this]", 1, ["undefined", "undefined"]),
    "merged enum and namespace": (
        "enum E { A = 1 }\nenum E { B = A << 1 }\nnamespace N.M { export namespace O { export const x = E.B } }\n"
        "function f() { return f.x }\nnamespace f { export const x = 5 }\nimport Y = N.M.O;\nfunction main() { return [E, Y.x, f()] }",
        1,
        [{"1": "A", "2": "B", "A": 1, "B": 2}, 2, 5],
    ),
    "abstract class, overloads, accessors": (
        "abstract class S { constructor(protected readonly n: string) {} abstract area(): number; get name(): string { return this.n } }\n"
        "class C extends S { constructor(private r: number) { super('c') } override area(): number { return this.r ** 2 } }\n"
        "function f(x: number): number; function f(x: string): string; function f(x: any) { return x }\n"
        "function main(i) { const c = new C(i); return [c, c.area(), c.name, f('x')] }",
        3,
        [{"n": "c", "r": 3}, 9, "c", "x"],
    ),
    "using": (
        "function main() { let s = ''; { using r = { [Symbol.dispose]() { s += 'd' } }; s += 'b' } return s }",
        1,
        "bd",
    ),
    "labels": (
        "function main() { let n = 0; outer: for (;;) { for (;;) { if (++n > 3) break outer; continue outer } } return n }",
        1,
        4,
    ),
    "sets in regular expressions": (
        "function main(i) { return [/[\\p{Emoji}--\\p{ASCII}]/v.exec(i)[0], /(?i:A)b/.test('ab'), /^\\p{RGI_Emoji}$/v.test('👨‍👩‍👧')] }",
        "a😀b",
        ["😀", True, True],
    ),
    "dates of tomorrow": (
        "function main() { return {d: Temporal.PlainDate.from('2024-02-29').add({years: 1}), t: typeof Temporal.Now} }",
        1,
        {"d": "2025-02-28", "t": "object"},
    ),
    "what JSON makes of values": (
        "function main() { return [new Map([[1, 2]]), new Set([1]), /x/, new Error('e'), new Date(NaN), Symbol('s'), new Number(3), [, 1],"
        " new Uint8Array([7]), {get a() { return 1 }, u: undefined, f() {}}, new Proxy([1], {}), Promise.resolve(1)] }",
        1,
        [{}, {}, {}, {}, None, None, 3, [None, 1], {"0": 7}, {"a": 1}, [1], {}],
    ),
    "shared memory": (
        "function main() { const b = new Int32Array(new SharedArrayBuffer(8)); Atomics.add(b, 0, 5); return [Atomics.load(b, 0),"
        " Atomics.wait(b, 1, 0, 5), b] }",
        1,
        [5, "timed-out", {"0": 5, "1": 0}],
    ),
    "digest": (
        "async function main(i) { const d = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(i));"
        " return [...new Uint8Array(d)].map(b => b.toString(16).padStart(2, '0')).join('') }",
        "abc",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    ),
    "exceptions of the web": (
        "function main() { try { atob('*') } catch (e) { return [e.name, e.message, e.code, e instanceof DOMException, e instanceof Error] } }",
        1,
        ["InvalidCharacterError", "Failed to decode base64", 5, True, True],
    ),
    "clones": (
        "function main() { const s = new SharedArrayBuffer(2); new Uint8Array(s)[0] = 7; const e = structuredClone(new RangeError('r', {cause: 1}));"
        " try { structuredClone(Promise.resolve()) } catch (x) { return [new Uint8Array(structuredClone(s))[0], e.name, e.cause, x.name, x.message,"
        " DOMException.DATA_CLONE_ERR === x.code] } }",
        1,
        [7, "RangeError", 1, "DataCloneError", "#<Promise> could not be cloned.", True],
    ),
    "transfer": (
        "function main() { const b = new ArrayBuffer(4); const c = structuredClone(b, {transfer: [b]}); return [b.byteLength, c.byteLength] }",
        1,
        [0, 4],
    ),
    "inspect": (
        "function main() { return Deno.inspect({a: [1, 'x'], 'b c': new Map([[1, {}]]), n: null, f() {}, get g() { return 1 }}) }",
        1,
        '{ a: [ 1, "x" ], "b c": Map(1) { 1 => {} }, n: null, f: [Function: f], g: [Getter] }',
    ),
    "generator": ("function* all() { yield* [1, 2] }\nfunction main() { return [...all()] }", 1, [1, 2]),
    "timers": (
        "async function main() { const at = []; setTimeout((x) => at.push(x), 2, 'late'); setTimeout(() => at.push('soon'));"
        " await new Promise(r => setTimeout(r, 10)); return at }",
        1,
        ["soon", "late"],
    ),
    "interval": (
        "function main() { let n = 0; return new Promise(r => { const i = setInterval(() => { if (++n === 3) { clearInterval(i);"
        " r(n) } }, 1) }) }",
        1,
        3,
    ),
    "cleared timer": (
        "async function main() { let n = 0; clearTimeout(setTimeout(() => n++, 0)); await new Promise(r => setTimeout(r, 3)); return n }",
        1,
        0,
    ),
    "microtask": (
        "async function main() { const a = []; queueMicrotask(() => a.push(1)); await null; await null; return a }",
        1,
        [1],
    ),
    "url": (
        "function main(i) { const u = new URL(i); u.searchParams.set('b', '2'); return [u.hostname, u.href] }",
        "https://x.test/p?a=1",
        ["x.test", "https://x.test/p?a=1&b=2"],
    ),
    "relative url": ("function main(i) { return new URL('../q', i).pathname }", "https://x.test/a/b/c", "/a/q"),
    "url that is none": (
        "function main(i) { try { new URL(i) } catch (e) { return e instanceof TypeError } }",
        "nope",
        True,
    ),
    "search params": (
        "function main(i) { const p = new URLSearchParams(i); p.append('c', 'd e'); return [p.getAll('a'), String(p)] }",
        "a=1&a=2",
        [["1", "2"], "a=1&a=2&c=d+e"],
    ),
    "text encoder": (
        "function main(i) { return [...new TextEncoder().encode(i)] }",
        "é😀",
        [195, 169, 240, 159, 152, 128],
    ),
    "text decoder": (
        "function main(i) { return new TextDecoder().decode(new Uint8Array(i)) }",
        [195, 169, 240, 159, 152, 128],
        "é😀",
    ),
    "base64": ("function main(i) { return [btoa(i), atob(btoa(i)), atob('YQ')] }", "hällo", ["aORsbG8=", "hällo", "a"]),
    "structured clone": (
        "function main(i) { const c = structuredClone({d: new Map([[1, {x: [i]}]])}); return [...c.d] }",
        7,
        [[1, {"x": [7]}]],
    ),
    "random": (
        "function main() { return crypto.randomUUID().length + crypto.getRandomValues(new Uint8Array(4)).length }",
        1,
        40,
    ),
    "intl": (
        "function main(i) { return new Intl.NumberFormat('en').format(i) + i.toLocaleString('de-DE') }",
        1234.5,
        "1,234.51.234,5",
    ),
    "utc": (
        "function main() { return [new Date(0).getTimezoneOffset(), Intl.DateTimeFormat().resolvedOptions().timeZone] }",
        1,
        [0, "UTC"],
    ),
    "named groups": ("function main(i) { return i.match(/(?<y>\\d{4})/u).groups.y }", "in 2024", "2024"),
    "own error class": (
        "class Bad extends Error { constructor(m) { super(m); this.name = 'Bad' } }\n"
        "function main() { try { throw new Bad('x') } catch (e) { return [e.name, e.message, e instanceof Bad, String(e)] } }",
        1,
        ["Bad", "x", True, "Bad: x"],
    ),
    "words that are names of methods": (
        "function main(i) { const n = {}; for (const w of i) n[w] = (typeof n[w] === 'number' ? n[w] : 0) + 1; return n }",
        ["constructor", "toString", "valueOf", "toString"],
        {"constructor": 1, "toString": 2, "valueOf": 1},
    ),
    "old classes": (
        "function A() {}\nA.prototype.toString = function () { return 'A' };\nfunction main() { return '' + new A() }",
        1,
        "A",
    ),
    "eval": ("function main() { return eval('1 + 1') + new Function('return 3')() }", 1, 5),
    "negative zero": ("function main() { return -0 }", 1, 0),
    "infinity": ("function main() { return [Infinity, undefined, () => 1] }", 1, [None, None, None]),
    "to json": ("function main() { return {toJSON() { return 5 }} }", 1, 5),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_the_published_servers_conventions_hold(pool: ProgramPool, name: str) -> None:
    """One run, and the same in a run of several."""
    code, value, output = CONVENTIONS[name]
    assert pool.run(ts(code), value) == ProgramOutcome(output, None, pytest.approx(0, abs=60_000))
    assert [(each.output, each.error) for each in pool.run_many(ts(code), [value] * 3)] == [(output, None)] * 3


FAILURES: dict[str, tuple[str, str]] = {
    "message": ("function main() { throw new Error(' bad thing ') }", "bad thing"),
    "async message": ("async function main() { await null; throw new TypeError('bad thing') }", "bad thing"),
    "no message": ("function main() { throw new RangeError() }", "RangeError"),
    "text": ("function main() { throw 'text' }", "undefined"),
    "null": ("function main() { throw null }", "Cannot read properties of null (reading 'message')"),
    "top": ("throw new Error('top'); function main() {}", "top"),
    "undefined": ("function main() {}", "Program exited with code 0"),
    "function": ("function main() { return main }", "Program exited with code 0"),
    "no main": ("const x = 1", "main is not defined"),
    "main is no function": ("const main = 1", "main is not a function"),
    "exit": ("function main() { Deno.exit(3) }", "Program exited with code 3"),
    "exit that is caught": (
        "function main() { try { Deno.exit(3) } catch { return 1 } }",
        "Program exited with code 3",
    ),
    "exit that is caught for ever": (
        "function main() { for (;;) { try { Deno.exit(4) } catch {} } }",
        "Program exited with code 4",
    ),
    "exit while waiting": (
        "async function main() { setTimeout(() => Deno.exit(5), 1); await new Promise(() => {}) }",
        "Program exited with code 5",
    ),
    "exit with words": (
        "function main() { console.error('fatal: %s at %d', 'no text', 3, {a: [1]}); Deno.exit(2) }",
        "fatal: no text at 3 { a: [ 1 ] }\n",
    ),
    "warning and no result": (
        "function main() { console.warn('no', 'rule'); console.assert(false, 'x') }",
        "no rule\nAssertion failed: x\n",
    ),
    "words and a failure": ("function main() { console.error('seen'); throw new Error('bad') }", "bad"),
    "exit in the message": ("function main() { throw {get message() { Deno.exit(5) }} }", "Program exited with code 5"),
    "message that throws": ("function main() { throw {get message() { throw new Error('inner') }} }", "inner"),
    "message that is an object": ("function main() { throw {message: {a: 1}} }", "{ a: 1 }"),
    "message that is a number": ("function main() { throw {message: 42} }", "42"),
    "object": ("function main() { throw {} }", "undefined"),
    "nothing written as JSON": ("function main() { return {toJSON() {}} }", "Program exited with code 0"),
    "getter of the output": ("function main() { return {get x() { throw new Error('in getter') }} }", "in getter"),
    "thenable": ("function main() { return {then(_, no) { no(new Error('refused')) }} }", "refused"),
    "constant input": ("function main() { input = 3 }", "Assignment to constant variable."),
    "prototype that is frozen": (
        "function main() { Object.freeze([1]).push(2) }",
        "Cannot add property 1, object is not extensible",
    ),
    "close": ("function main() { self.close() }", "Program exited with code 0"),
    "process": ("function main() { process.exit(6) }", "Program exited with code 6"),
    "never": (
        "function main() { return new Promise(() => {}) }",
        "main never settles: its promise is pending and nothing is left to run",
    ),
    "rejection": (
        "async function main() { Promise.reject(new Error('loose')); await new Promise(r => setTimeout(r, 20)) }",
        "loose",
    ),
    "error in a timer": (
        "async function main() { setTimeout(() => { throw new Error('late') }); await new Promise(r => setTimeout(r, 50)) }",
        "late",
    ),
    "error in a microtask": (
        "async function main() { queueMicrotask(() => { throw new Error('micro') }); await new Promise(r => setTimeout(r, 50)) }",
        "micro",
    ),
    "bigint": ("function main() { return 10n }", "Do not know how to serialize a BigInt"),
    "surrogate": ("function main() { return '\\ud800' }", "Output is not valid Unicode: it has a lone surrogate"),
    "surrogate in a key": (
        "function main() { return {'\\udc00': 1} }",
        "Output is not valid Unicode: it has a lone surrogate",
    ),
    "strict": ("function main() { undeclared = 1 }", "undeclared is not defined"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_says_what_the_program_said(pool: ProgramPool, name: str) -> None:
    """At once, and on its own in a batch."""
    code, error = FAILURES[name]
    outcome = pool.run(ts(code), {})
    assert (outcome.output, outcome.error) == (None, error)
    assert outcome.latency_ms < 4000
    assert [each.error for each in pool.run_many(ts(code), [{}, {}])] == [error, error]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("function main( {", "line 1, column 17"),
        ("const a = 1;\nfunction main() {\n  return a +;\n}", "line 3, column 13"),
        (
            "const input = 1; function main() {}",
            "SyntaxError: Identifier 'input' has already been declared (line 1, column 7)",
        ),
        (
            "let a;\nlet a;\nfunction main() {}",
            "SyntaxError: Identifier 'a' has already been declared (line 2, column 5)",
        ),
        ("return 1; function main() {}", "Illegal return statement"),
        (
            "import fs from 'node:fs'; function main() {}",
            "SyntaxError: programs cannot import modules (line 1, column 1)",
        ),
        (
            "function main() {}\nexport * from './x.js';",
            "SyntaxError: programs cannot import modules (line 2, column 1)",
        ),
        ("function main() {}\n} globalThis.x = 1; {", "line 2, column 1"),
        (
            "class A {\n  @dec m() {}\n}\nfunction main() {}",
            "SyntaxError: decorators are not supported (line 2, column 3)",
        ),
    ],
)
def test_a_syntax_error_is_one_line_with_its_position(pool: ProgramPool, code: str, told: str) -> None:
    """Without paths, stacks or colours; and checking the program says the same."""
    outcome = pool.run(ts(code), {})
    assert outcome.error is not None
    assert outcome.error.startswith("SyntaxError: ")
    assert told in outcome.error
    assert not any(sign in outcome.error for sign in ("\n", "\x1b", "data:", "file:", "import 'data", "async()"))
    assert pool.check(ts(code)) == outcome.error


def test_check_says_whether_there_is_a_main(pool: ProgramPool) -> None:
    """What stands outside `main` may depend on the input, so that it fails is no complaint."""
    assert pool.check(ts(DOUBLE)) is None
    assert pool.check(ts("export const main = async (x) => x")) is None
    assert pool.check(ts("const x = 1")) == "main is not defined"
    assert pool.check(ts("const main = 1")) == "main is not a function but of type number"
    assert pool.check(ts("const first = input.items[0].text; function main() { return first }")) is None


FRESH = {
    "top-level variable": "let n = 0; function main() { n += 1; return n }",
    "global": "function main() { globalThis.n = (globalThis.n ?? 0) + 1; return globalThis.n }",
    "global that comes and goes": (
        "function main() { if ('n' in globalThis) { delete globalThis.n; return 2 } globalThis.n = 1; return 1 }"
    ),
    "prototype": "function main() { const p: any = Array.prototype; p.n = (p.n ?? 0) + 1; return p.n }",
    "prototype by definition": (
        "function main() { const had = 'n' in {}; Object.defineProperty(Object.prototype, 'n', {value: 1, configurable: true});"
        " return had ? 2 : 1 }"
    ),
    "built-in function": "function main() { const f: any = Math.max; f.n = (f.n ?? 0) + 1; return f.n }",
    "replaced function": (
        "const was = JSON.stringify; function main() { const first = was === JSON.stringify && !('old' in JSON);"
        " (JSON as any).old = 1; JSON.stringify = (() => '1') as any; return first ? 1 : 2 }"
    ),
    "array prototype's items": "function main() { Array.prototype.push(1); return Array.prototype.length }",
    "hidden prototype": (
        "function main() { const p: any = Object.getPrototypeOf([][Symbol.iterator]()); p.n = (p.n ?? 0) + 1; return p.n }"
    ),
    "generator prototype": (
        "function main() { const p: any = Object.getPrototypeOf(function* () {}); p.n = (p.n ?? 0) + 1; return p.n }"
    ),
    "async prototype": "function main() { const p: any = Object.getPrototypeOf(async () => {}); p.n = (p.n ?? 0) + 1; return p.n }",
    "console": "function main() { const c: any = console; c.n = (c.n ?? 0) + 1; return c.n }",
    "deno": "function main() { const d: any = Deno; d.n = (d.n ?? 0) + 1; return d.n }",
    "environment": "function main() { process.env.N = String(Number(process.env.N ?? 0) + 1); return Number(process.env.N) }",
    "last match": "function main() { const was = RegExp.$1; /(x)/.exec('x'); return was === '' ? 1 : 2 }",
    "regular expression": "const r = /x/g; function main() { r.exec('xx'); return r.lastIndex }",
    "timer number": "function main() { return setTimeout(() => {}, 1000) }",
    "timer that is left": (
        "let n = 1; setTimeout(() => { n = 2 }, 0); async function main() { if (input === 9) await new Promise(r => setTimeout(r, 30));"
        " return 1 }"
    ),
    "set prototype": (
        "function main() { const had = (globalThis as any).inherited; Object.setPrototypeOf(globalThis, {inherited: 1}); return had ? 2 : 1 }"
    ),
    "template": (
        "const seen = new WeakMap(); const t = (s) => { const n = (seen.get(s) ?? 0) + 1; seen.set(s, n); return n };"
        " function main() { return t`x` }"
    ),
    "error": "function main() { const e: any = Error; e.n = (e.n ?? 0) + 1; return e.n }",
    "eval": "function main() { (0, eval)('var n = (typeof n === \"undefined\" ? 0 : n) + 1'); return (globalThis as any).n }",
    "sloppy function": "function main() { return new Function('return this.n = (this.n || 0) + 1')() }",
}


@pytest.mark.parametrize("name", FRESH)
def test_nothing_of_one_execution_is_seen_by_the_next(pool: ProgramPool, name: str) -> None:
    """As if each had a process of its own: in single calls, in a run of many, and whatever ran before."""
    program = ts(FRESH[name])
    assert [(pool.run(program, 1).output, pool.run(program, 1).error) for _ in range(3)] == [(1, None)] * 3
    assert {(each.output, each.error) for each in pool.run_many(program, [1] * 30)} == {(1, None)}
    assert pool.run(ts("function main() { return [typeof n, 'n' in {}, 'n' in [], 'n' in Math.max] }"), 1).output == [
        "undefined", False, False, False,
    ]  # fmt: skip


def test_a_program_that_swallows_errors_sees_a_fresh_world(pool: ProgramPool) -> None:
    """The second execution reads what the first could have left, and reports it."""
    program = ts(
        "function main() { let seen = 0; try { seen = (Array.prototype as any).left ?? 0 } catch {}\n"
        "try { (Array.prototype as any).left = 1 } catch {}\nreturn seen }"
    )
    assert [each.output for each in pool.run_many(program, [0] * 10)] == [0] * 10


LEFT_BEHIND = {
    "rejection": "Promise.reject(new Error('left'))",
    "rejection whose message never ends": "Promise.reject({get message() { for (;;); }})",
    "microtasks": "let n = 0; const on = () => { if (++n < 100) queueMicrotask(on); else Deno.exit(7) }; on()",
    "timers": "setTimeout(() => Deno.exit(7)); setInterval(() => { throw new Error('left') })",
}


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_what_an_execution_leaves_behind_ends_no_other(name: str) -> None:
    """Neither one that returns at once nor one that waits, the first that waits in its process included."""
    program = ts(
        f"async function main(i) {{ if (i % 3) {{ {LEFT_BEHIND[name]}; return i }}"
        " if (i) await new Promise(r => setTimeout(r, 5)); return i }"
    )
    with ProgramPool(processes=1) as fresh:
        for _ in range(2):
            outcomes = fresh.run_many(program, [1, 2, 1, *range(12)], timeout_ms=5000)
            assert [(each.output, each.error) for each in outcomes] == [(i, None) for i in [1, 2, 1, *range(12)]]


@pytest.mark.parametrize("first", [0, 3])
def test_an_execution_that_waits_runs_once_more_unseen(first: int) -> None:
    """What it did before it waited is undone, whether it is the first of its process or comes after others."""
    program = ts(
        "const seen = []; async function main(i) { seen.push(i); if (i === 3) await new Promise(r => setTimeout(r, 1));"
        " seen.push(setTimeout(() => {}, 0)); return seen }"
    )
    with ProgramPool(processes=1) as fresh:
        outcomes = fresh.run_many(program, range(first, 9))
        assert [each.output for each in outcomes] == [[i, 1 + (i == 3)] for i in range(first, 9)]


@pytest.mark.slow
def test_an_execution_that_waits_has_its_whole_time() -> None:
    """The run in which it turned out to wait does not count."""
    program = ts(
        "async function main(i) { const began = Date.now(); while (Date.now() - began < i);"
        " await new Promise(r => setTimeout(r, 1)); return i }"
    )
    with ProgramPool(processes=1) as fresh:
        outcomes = fresh.run_many(program, [2000, 1], timeout_ms=3500)
    assert [(each.output, each.error) for each in outcomes] == [(2000, None), (1, None)]


def test_a_deno_without_the_internal_function_runs_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More slowly: the queue of microtasks is emptied by a turn of the event loop."""
    for file in Path(process.__file__).parent.iterdir():
        if file.is_file():
            source = file.read_text(encoding="utf-8")
            (tmp_path / file.name).write_text(source.replace("core?.runMicrotasks", "core?.none"), encoding="utf-8")
    monkeypatch.setattr(process, "_HERE", tmp_path)
    program = ts("async function main(i) { if (i === 5) throw new Error('five'); return (await i) * 2 }")
    with ProgramPool(processes=1) as fresh:
        outcomes = fresh.run_many(program, range(10))
    assert [each.output for each in outcomes] == [i * 2 if i != 5 else None for i in range(10)]
    assert outcomes[5].error == "five"


def test_a_batch_keeps_order_and_outcomes_apart(pool: ProgramPool) -> None:
    """Values, failures, time-outs of both kinds and inputs that JSON lacks, each in its place."""
    program = ts(
        "async function main(i) { if (i === 'loop') for (;;); if (i === 'wait') await new Promise(r => setTimeout(r, 60000));"
        " if (i === 'fail') throw new Error('no'); return i }"
    )
    inputs: list[Any] = [0, "fail", 2, "loop", "wait", 5, float("nan"), 7, object(), *range(9, 300)]
    outcomes = pool.run_many(program, inputs, timeout_ms=300)
    assert [each.output for each in outcomes[9:]] == list(range(9, 300))
    assert [each.output for each in outcomes[:9]] == [0, None, 2, None, None, 5, None, 7, None]
    late = "Execution timeout after 300ms"
    assert [outcomes[at].error for at in (1, 3, 4)] == ["no", late, late]
    assert all((outcomes[at].error or "").startswith("Input is not JSON") for at in (6, 8))


def test_time_outs_count_the_run_alone(pool: ProgramPool) -> None:
    """No time at all ends at once, a negative limit is no hurry, and starting a process is not the program's time."""
    assert pool.run(ts(DOUBLE), 1, timeout_ms=0).error == "Execution timeout after 0ms"
    assert pool.run(ts(DOUBLE), 1, timeout_ms=-1).output == 2
    with ProgramPool(processes=1) as fresh:
        assert fresh.run(ts(DOUBLE), 1, timeout_ms=40).output == 2


def test_input_comes_as_the_published_server_gives_it(pool: ProgramPool) -> None:
    """`__proto__` sets the prototype, as in a literal; whole numbers beyond 2^53 are rounded; halves of pairs pass."""
    program = ts("function main(input) { return {...input} }")
    assert pool.run(program, {"__proto__": {"x": 1}, "a": 2}).output == {"a": 2}
    assert pool.run(ts("function main(i) { return i.x }"), {"__proto__": {"x": 1}}).output == 1
    assert pool.run(ts("function main(i) { return i }"), 2**53 + 1).output == 2**53
    assert pool.run(ts("function main(i) { return i.length }"), "\ud800").output == 1
    assert pool.run(ts("function main(i) { return i }"), ["__proto__", {"a": "__proto__"}]).output == [
        "__proto__",
        {"a": "__proto__"},
    ]


def test_large_inputs_and_outputs_pass(pool: ProgramPool) -> None:
    """Larger than any pipe's buffer, one and many, in both directions."""
    text = "é" * 1_500_000
    echo = ts("function main(i) { return i }")
    assert pool.run(echo, text).output == text
    rows = [[number, "x" * 20_000] for number in range(600)]
    assert [each.output for each in pool.run_many(echo, rows)] == rows


def test_a_caller_cannot_be_changed_through_its_input(pool: ProgramPool) -> None:
    """The program gets a copy."""
    value = {"a": [1]}
    assert pool.run(ts("function main(i) { i.a.push(2); return i }"), value).output == {"a": [1, 2]}
    assert value == {"a": [1]}


def test_one_process_serves_what_comes_one_after_the_other() -> None:
    """None starts before the first run, one is enough for many programs, and closing ends it."""
    before = deno_processes()
    pool = ProgramPool()
    assert deno_processes() == before
    for number in range(60):
        assert pool.run(ts(f"function main() {{ return {number} }}"), 0).output == number
    assert len(deno_processes() - before) == 1
    pool.close()
    pool.close()
    assert deno_processes() == before
    with pytest.raises(RuntimeError, match="closed"):
        pool.run(ts(DOUBLE), 1)


def test_sixteen_threads_share_two_processes(pool: ProgramPool) -> None:
    """Each gets its own answers, for programs of both languages at once."""
    both = [ts(DOUBLE), Program("def main(input):\n    return input * 2")]

    def work(number: int) -> list[Any]:
        return [pool.run(both[n % 2], [number, n][0] * 100 + n).output for n in range(40)]

    with ThreadPoolExecutor(16) as threads:
        results = list(threads.map(work, range(16)))
    assert results == [[(number * 100 + n) * 2 for n in range(40)] for number in range(16)]


def test_a_process_that_was_killed_between_runs_is_not_noticed() -> None:
    """The next call runs in another one."""
    before = deno_processes()
    with ProgramPool(processes=1) as pool:
        assert pool.run(ts(DOUBLE), 1).output == 2
        for pid in deno_processes() - before:
            os.kill(pid, signal.SIGKILL)
            psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=5)
        assert pool.run(ts(DOUBLE), 2).output == 4
        assert [each.output for each in pool.run_many(ts(DOUBLE), list(range(50)))] == [n * 2 for n in range(50)]


def test_running_out_of_memory_fails_the_guilty_call_only() -> None:
    """Others that are under way end well, and so do the rows around it."""
    eat = "const kept = []; function main(i) { if (i !== 7) return i; for (;;) kept.push(new Array(1000).fill(1.5)) }"
    slow = ts("async function main(i) { await new Promise(r => setTimeout(r, 5)); return i }")
    with ProgramPool(processes=2, max_memory_mb=32) as pool:
        answers: list[list[Any]] = []
        other = threading.Thread(target=lambda: answers.append([pool.run(slow, n).output for n in range(60)]))
        other.start()
        outcomes = pool.run_many(ts(eat), list(range(12)), timeout_ms=30_000)
        other.join()
    assert [each.output for each in outcomes] == [n if n != 7 else None for n in range(12)]
    assert outcomes[7].error == "Memory limit of 32 MB exceeded"
    assert answers == [list(range(60))]


def test_one_program_gets_its_share_of_the_processes_and_waiting_can_be_given_up() -> None:
    """Another program's calls do not wait for it; who is no longer wanted gets the reason as its error."""
    slow = ts("async function main(i) { await new Promise(r => setTimeout(r, 400)); return i }")
    with ProgramPool(processes=2, per_program=1) as pool:
        assert pool.run(ts(DOUBLE), 1).output == 2
        with ThreadPoolExecutor(4) as threads:
            runs = [threads.submit(pool.run, slow, n) for n in range(3)]
            gone = threads.submit(pool.run, slow, 9, stop=lambda: "the caller is gone")
            assert pool.run(ts(DOUBLE), 2).output == 4
            assert not all(run.done() for run in runs)
            assert gone.result().error == "the caller is gone"
            assert [run.result().output for run in runs] == [0, 1, 2]
        seen: list[int] = []

        def after_some() -> str | None:
            seen.append(1)
            return "enough" if len(seen) > 1 else None

        outcomes = pool.run_many(ts(DOUBLE), list(range(1000)), stop=after_some)
    assert outcomes[0].output == 0
    assert [each.error for each in outcomes[-3:]] == ["enough"] * 3


def test_killing_a_pool_ends_what_runs() -> None:
    """At once, and the caller is told that the pool was closed."""
    before = deno_processes()
    pool = ProgramPool(processes=1)
    assert pool.run(ts(DOUBLE), 1).output == 2
    with ThreadPoolExecutor(1) as threads:
        run = threads.submit(pool.run, ts("function main() { for (;;); }"), 1, timeout_ms=60_000)
        while not any(psutil.Process(pid).cpu_times().user > 0.2 for pid in deno_processes() - before):
            assert not run.done()
        pool.kill()
        with pytest.raises(RuntimeError, match="closed"):
            run.result(timeout=10)
    assert deno_processes() == before


def test_without_the_library_one_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """For TypeScript; Python programs run on."""
    monkeypatch.setitem(sys.modules, "deno", None)
    with ProgramPool(processes=1) as pool:
        with pytest.raises(ConfigurationError, match=r"requires Deno: pip install deno$"):
            pool.run(ts(DOUBLE), 1)
        assert pool.run(Program("def main(input):\n    return 1"), 1).output == 1


def test_a_program_sees_no_environment_and_no_paths(pool: ProgramPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither variables of ours nor where this library lies."""
    monkeypatch.setenv("LOOPAI_API_KEY", "secret")
    code = (
        "function main() { const told = [JSON.stringify(process.env)]; try { told.push(Deno.env.get('LOOPAI_API_KEY')) }"
        " catch (e) { told.push(e.message, e.stack) } try { null.x } catch (e) { told.push(e.stack) }"
        " Error.captureStackTrace?.(told); told.push(told.stack, new Error('x').stack); return told }"
    )
    told = repr(pool.run(ts(code), 1))
    assert not any(word in told for word in ("secret", "loopai", "/work", "file:", "host.js", "realm"))
