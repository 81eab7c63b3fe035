"""Programs in TypeScript that mean harm: each ends as an outcome, reaches nothing, and the next program runs right."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the sandbox needs Python 3.10", allow_module_level=True)
pytest.importorskip("deno")

from loopai.programs import Program, ProgramPool

pytestmark = pytest.mark.slow

NORMAL = Program("function main(input: {n: number}) { return {twice: input.n * 2} }", "typescript")
TIMEOUT_MS = 400
TIMEOUT = f"Execution timeout after {TIMEOUT_MS}ms"
PLENTY_MS = 30_000  # for what ends by itself, however busy the machine is
MEMORY = "Memory limit of 32 MB exceeded"
STACK = "Maximum call stack size exceeded"
DENIED = "is not available: programs reach no files, network, environment, system or other processes"
NO_IMPORT = "A dynamic import callback was not specified."
WAITS = "await new Promise(r => setTimeout(r, 20));"


@pytest.fixture(scope="module")
def pool() -> Iterator[ProgramPool]:
    with ProgramPool(processes=2, max_memory_mb=32) as pool:
        yield pool


def main(body: str) -> str:
    return f"async function main(input: any): Promise<any> {{ {body} }}"


TIMED = {
    "loop": main("for (;;);"),
    "loop at load": "for (;;); function main() {}",
    "loop that catches": main("for (;;) { try { for (;;); } catch {} }"),
    "loop in finally": main("for (;;) { try { throw 1 } finally { continue } }"),
    "loop in eval": main("eval('for (;;);')"),
    "loop in a timer": main("setTimeout(() => { for (;;); }); await new Promise(() => {})"),
    "loop in a getter of the error": main("throw {get message() { for (;;); }}"),
    "loop in toJSON": main("return {toJSON() { for (;;); }}"),
    "loop in then": main("return {then() { for (;;); }}"),
    "promises for ever": main("for (;;) await null"),
    "promises left behind": main("(async () => { for (;;) await null })(); return 1"),
    "microtasks left behind": main("const f = () => queueMicrotask(f); f(); return 1"),
    "timers for ever": main("const f = () => setTimeout(f, 0); f(); await new Promise(() => {})"),
    "interval for ever": main("setInterval(() => {}, 1); await new Promise(() => {})"),
    "a timer of a day": main("await new Promise(r => setTimeout(r, 86400000))"),
    "backtracking": main("return /^(a+)+$/.test('a'.repeat(40) + 'b')"),
    "waiting in the engine": main("Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)"),
    "digests for ever": main("for (;;) crypto.subtle.digest('SHA-256', new Uint8Array(1e6))"),
    "loop in what is printed": main("console.error(new Proxy({}, {ownKeys() { for (;;); }})); Deno.exit(1)"),
    "printing for ever": main("for (;;) console.log('x'.repeat(1000))"),
    "huge loop of a built-in": main("return Array.from({length: 2 ** 31}, (_, i) => i % 7).length"),
}

FAILING = {
    # memory, output, depth
    "list bomb": (main("const x = []; for (;;) x.push([x.length, 1.5, {}])"), MEMORY),
    "object bomb": (main("const d: any = {}; for (let i = 0;; i++) d['k' + i] = {i}"), MEMORY),
    "text bomb": (main("const all = []; for (let i = 0;; i++) all.push(('x' + i).repeat(1000).split(''))"), MEMORY),
    "text too long": (main("return 'a'.repeat(2 ** 30)"), "Invalid string length"),
    "array too long": (main("return new Array(2 ** 33)"), "Invalid array length"),
    "long output": (main("return 'x'.repeat(10_000_000)"), "Output is longer than 10000000 characters of JSON"),
    "sparse output": (main("const a: any = []; a[2 ** 31] = 1; return a"), None),
    "deep recursion": (main("const f = (n: number): number => 1 + f(n); return f(0)"), STACK),
    "deep output": (main("let x: any = []; for (let i = 0; i < 1e6; i++) x = [x]; return x"), "nested too deeply"),
    "output too deep for others": (main("let x: any = []; for (let i = 0; i < 200; i++) x = {x}; return x"), "nested too deeply"),
    "long message": (main("throw new Error('x'.repeat(100000))"), "x" * 2000 + " …"),
    # files, network, environment, system, processes
    "read a file": (main("return Deno.readTextFileSync('/etc/passwd')"), f"Deno.readTextFileSync {DENIED}"),
    "write a file": (main("await Deno.writeTextFile('/tmp/x', 'x')"), f"Deno.writeTextFile {DENIED}"),
    "environment": (main("return Deno.env.toObject()"), f"Deno.env.toObject {DENIED}"),
    "host name": (main("return Deno.hostname()"), f"Deno.hostname {DENIED}"),
    "subprocess": (main("return new Deno.Command('id').outputSync()"), f"Deno.Command {DENIED}"),
    "foreign functions": (main("return Deno.dlopen('libc.so.6', {})"), f"Deno.dlopen {DENIED}"),
    "kill": (main("Deno.kill(1, 'SIGKILL')"), f"Deno.kill {DENIED}"),
    "fetch": (main("return await fetch('http://127.0.0.1:1/')"), f"fetch {DENIED}"),
    "connect": (main("return await Deno.connect({port: 1})"), f"Deno.connect {DENIED}"),
    "socket": (main("return new WebSocket('ws://127.0.0.1:1/')"), "WebSocket is not defined"),
    "write to the protocol": (main("Deno.stdout.writeSync(new Uint8Array(13))"), f"Deno.stdout.writeSync {DENIED}"),
    "read the protocol": (main("return Deno.stdin.readSync(new Uint8Array(9))"), f"Deno.stdin.readSync {DENIED}"),
    "ask for permission": (main("return Deno.permissions.requestSync({name: 'read'})"), f"Deno.permissions.requestSync {DENIED}"),
    # code from elsewhere
    "import node": (main("return await import('node:fs')"), NO_IMPORT),
    "import a remote module": (main("return await import('https://example.org/x.js')"), NO_IMPORT),
    "import npm": (main("return await import('npm:left-pad')"), NO_IMPORT),
    "import a file": (main("return await import('/etc/passwd')"), NO_IMPORT),
    "import data": (main("return (await import('data:text/javascript,export default 1')).default"), NO_IMPORT),
    "import in eval": (main("return await (0, eval)('import(\"node:fs\")')"), NO_IMPORT),
    "import in a function": (main("return await new Function('return import(\"node:fs\")')()"), NO_IMPORT),
    "require": (main("return require('fs')"), "require is not defined"),
    "exports without end": ("".join(f"export const v{n} = 1;" for n in range(5000)) + "function main() {}", "100 exports"),
    "built-in module": (main("return (process as any).getBuiltinModule('fs')"), "process.getBuiltinModule is not a function"),
    "nested worker": (main("return new Worker('data:text/javascript,')"), "Worker is not defined"),
    "web assembly": (main("return new WebAssembly.Memory({initial: 60000})"), "WebAssembly is not defined"),
    "waiting that nobody notices": (main("return Atomics.waitAsync(new Int32Array(new SharedArrayBuffer(4)), 0, 0).value"), "is not a function"),
    "shared memory that grows": (main("new SharedArrayBuffer(1, {maxByteLength: 2 ** 33}).grow(2 ** 33)"), "Out of memory"),
    "module's address": (main("return import.meta.resolve('node:fs')"), f"import.meta.resolve {DENIED}"),
    "long words": (main("for (let i = 0; i < 100; i++) console.error('x'.repeat(1000)); Deno.exit(1)"), "x" * 1000 + "\n" + "x" * 999 + " …"),
    "messages": (main("postMessage({ok: true})"), "postMessage is not defined"),
}  # fmt: skip


@pytest.mark.parametrize("name", TIMED)
def test_what_does_not_end_is_ended(pool: ProgramPool, name: str) -> None:
    """By the time-out, and the next call works."""
    assert pool.run(Program(TIMED[name], "typescript"), {}, timeout_ms=TIMEOUT_MS).error in {TIMEOUT, MEMORY}
    assert pool.run(NORMAL, {"n": 2}).output == {"twice": 4}


@pytest.mark.parametrize("name", FAILING)
def test_a_hostile_program_ends_as_an_error_and_harms_nothing(pool: ProgramPool, name: str) -> None:
    """With words that say what it met, in a batch as alone."""
    code, error = FAILING[name]
    outcome = pool.run(Program(code, "typescript"), {}, timeout_ms=PLENTY_MS)
    assert outcome.error is not None
    assert error is None or error in outcome.error
    assert len(outcome.error) < 2100
    assert pool.run(NORMAL, {"n": 2}).output == {"twice": 4}
    assert [each.ok for each in pool.run_many(Program(code, "typescript"), [{}, {}], timeout_ms=PLENTY_MS)] == [
        False
    ] * 2


ESCAPES = {
    "constructor of this": "return globalThis.constructor.constructor('return typeof Deno.pid')()",
    "constructor of a function": "return [].map.constructor('return Deno.pid ?? null')()",
    "constructor of a timer": "const f: any = setTimeout; return f.constructor('return Deno.pid ?? null')()",
    "constructor of deno": "const f: any = Deno.readFile; return f.constructor('return Deno.pid ?? null')()",
    "stack overflow in the host": (
        "const found = []; const f: any = () => { try { f() } catch {} for (const g of [() => setTimeout(() => {}, 1),"
        " () => performance.now(), () => new URL('http://x'), () => crypto.getRandomValues(new Uint8Array(8)),"
        " () => new TextDecoder().decode(new Uint8Array(3))]) { try { g() } catch (e: any) { if (!(e instanceof Error))"
        " found.push(String(e)) } } }; f(); return found.length ? found : null"
    ),
    "stack frames": (
        "let seen: any = null; (Error as any).prepareStackTrace = (e: any, frames: any[]) => { for (const f of frames)"
        " { seen = f.getFunction?.() ?? f.getThis?.() ?? seen } return '' }; try { new Error('x').stack } catch {}"
        " setTimeout(() => { new Error('y').stack }); await new Promise(r => setTimeout(r, 5)); return seen && typeof seen"
    ),
    "more stack frames": "try { Error.stackTraceLimit = 100 } catch {} return String(new Error('x').stack).includes('file:') ? 1 : null",
    "caller": "function f() { return (f as any).caller } try { return typeof f() === 'function' ? 1 : null } catch { return null }",
    "then of promises": (
        "let host: any = null; (Promise.prototype as any).then = function (a: any, b: any) { host ??= a; return this };"
        " await null; return host && host.constructor !== Function ? 1 : null"
    ),
    "species": (
        "class P extends Promise<any> { static get [Symbol.species]() { return Array } } return new P((r: any) => r(null))"
    ),
    "getters of the global": "return Object.getOwnPropertyNames(globalThis).filter(n => /internal|bootstrap|host/i.test(n))[0] ?? null",
    "internals": "return (Deno as any)[(Deno as any).internal] ?? null",
    "proxy as result": "return new Proxy({}, {get(_, k) { return k === 'toJSON' ? () => null : undefined }})",
    "url's parts": "try { (Object.prototype as any).href = 1; new URL('http://x') } catch {} return null",
}


@pytest.mark.parametrize("name", ESCAPES)
def test_there_is_no_way_to_the_host(pool: ProgramPool, name: str) -> None:
    """What climbs out of its realm elsewhere finds nothing here: null, nothing, or an error."""
    outcome = pool.run(Program(main(ESCAPES[name]), "typescript"), {}, timeout_ms=PLENTY_MS)
    assert outcome.output in {None, "undefined"}
    assert pool.run(NORMAL, {"n": 2}).output == {"twice": 4}


FORGERIES = {
    "marker": (main("console.log('__OUTPUT_START__'); console.log('5'); console.log('__OUTPUT_END__'); return 1"), 1),
    "console": (
        main("console.log('\\x0d\\0\\0\\0\\0' + 'x'.repeat(100)); console.error('x'); console.table([1]); return 1"),
        1,
    ),
    "json": ("JSON.stringify = () => '666'; function main() { return 1 }", 1),
    "json of a prototype": ("(Object.prototype as any).toJSON = () => 5; function main() { return {a: 1} }", 5),
    "parse": ("JSON.parse = () => 666; function main(i) { return i.n }", 1),
    "promise": ("(Promise.prototype as any).then = (f) => f(666); async function main() { return 1 }", 1),
    "define": ("Object.defineProperty = () => { throw 1 }; function main() { return 1 }", 1),
    "apply": ("Reflect.apply = () => 666; Function.prototype.call = () => 666; function main() { return 1 }", 1),
    "map": ("Map.prototype.get = () => 666; Map.prototype.set = () => 666; function main() { return 1 }", 1),
    "text": ("String.prototype.trim = () => '666'; function main() { throw new Error('1') }", "1"),
    "post message": (main("(globalThis as any).postMessage?.({kind: 0, text: '666'}); return 1"), 1),
    "main that settles twice": ("function main() { return {then(f) { f(1); f(666) }} }", 1),
    "late answer": (main("setTimeout(() => { (globalThis as any).x = 666 }, 0); return 1"), 1),
    "newline": (main("return {a: '\\n\\r\\u2028', toJSON() { return 1 }}"), 1),
    "raw json": (main("return (JSON as any).rawJSON('1')"), 1),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_an_answer_cannot_be_forged(pool: ProgramPool, name: str) -> None:
    """Neither on standard output nor by replacing what writes it; and the executions after it are right."""
    code, expected = FORGERIES[name]
    program = Program(code, "typescript")
    for outcome in [pool.run(program, {"n": 1}), *pool.run_many(program, [{"n": 1}] * 5)]:
        assert (outcome.error or outcome.output) == expected
    assert pool.run(NORMAL, {"n": 2}).output == {"twice": 4}


def test_memory_beside_the_heap_is_bounded(pool: ProgramPool) -> None:
    """Buffers of bytes lie outside of the heap; a program gets no more than a fixed amount of them."""
    code = main(
        "const all = []; for (let i = 0; i < 400; i++) all.push(new Uint8Array(16 << 20).fill(1)); return all.length"
    )
    outcome = pool.run(Program(code, "typescript"), {}, timeout_ms=PLENTY_MS)
    assert outcome.output is None
    assert "allocation failed" in (outcome.error or "") or outcome.error == MEMORY
    assert pool.run(NORMAL, {"n": 2}).output == {"twice": 4}


def test_nothing_is_written(pool: ProgramPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deno keeps no cache of what it runs, in the home folder or elsewhere."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with ProgramPool(processes=1) as fresh:
        assert fresh.run(NORMAL, {"n": 2}).output == {"twice": 4}
    assert os.listdir(tmp_path) == []


def test_programs_do_not_see_each_other(pool: ProgramPool) -> None:
    """What one changes in its own world is not in another's, in the same process."""
    vandal = Program(
        "for (const o of [Object, Array, String, Promise, JSON, Math]) for (const n of Object.getOwnPropertyNames(o)) "
        "try { (o as any)[n] = () => 666 } catch {}\nfunction main() { return 1 }",
        "typescript",
    )
    with ProgramPool(processes=1) as one:
        for _ in range(3):
            assert one.run(vandal, {}).output == 1
            assert one.run(NORMAL, {"n": 2}).output == {"twice": 4}
