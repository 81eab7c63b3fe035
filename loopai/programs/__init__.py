"""Run untrusted programs in sandboxed processes: Python with Monty, TypeScript with Deno.

A program defines `main(input)`, plain or async, and returns a JSON value. It has no access to files, network, processes
or environment variables, and has limits on time, memory and recursion; what it prints is discarded. Executions are
isolated from each other. `languages` lists the languages; each has an engine.

**TypeScript** (`typescript/`), also plain JavaScript: types are removed, not checked. A program runs in a V8 context
without modules and without Deno, in a Deno process without permissions. Besides the language there are timers, `URL`,
`URLSearchParams`, `TextEncoder`, `TextDecoder`, `atob`, `btoa`, `structuredClone`, `crypto.randomUUID` and
`getRandomValues`, and `performance.now`; `fetch` and nearly all of `Deno` exist and raise. `input` is in scope at
the top level too. A call takes 0.15 ms, a row of many 10 µs; a program that changes built-in objects gets a new
context for each run, which takes 2 ms.

**Python** (`python_engine`; Monty is a separate interpreter). Sleeps return at once. Tuples become lists and dictionary
keys strings, as in JSON; sets, bytes, dates, instances, functions, NaN and infinities are errors that name the type.

Every run sees the program freshly loaded. A program whose functions provably change nothing that outlives a call
(`loopai.programs.stateless`) is loaded once and then called in the same session, about 0.1 ms per call; any other is
loaded for each run, which adds 0.3 ms for a small program and 3 ms for one with a table of 3,000 entries. If
`opentelemetry-api` is missing, the sandbox library looks for it at each request, which costs 0.07 ms.

Monty 1.4 supports functions, lambdas, closures, async, comprehensions, match, try, plain classes, f-strings, and
re, json, math, collections, datetime, itertools, functools, unicodedata, random, dataclasses. It does not support
`yield`, `del`, inheritance, properties, `import *`, str.translate, functions as replacements in re.sub, bound methods
as values (`key=d.get`; write a lambda), `string`, `enum` or `statistics`.
Built-in functions run near CPython's speed, each step of a loop takes about five times as long.
"""

from .pool import ProgramPool
from .program import Program, ProgramOutcome, UnsupportedLanguage

__all__ = ["Program", "ProgramOutcome", "ProgramPool", "UnsupportedLanguage"]
