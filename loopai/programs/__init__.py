"""Run programs that nobody reviewed, in sandboxed processes: Python with Monty, TypeScript with Deno.

A program defines `main(input)`, plain or async, and returns a JSON value. It may take no file, network, process
or environment variable, and has limits on time, memory and recursion; what it prints is thrown away. No execution
sees anything of another. `languages` lists the languages; each has an engine.

**TypeScript** (`typescript/`), also plain JavaScript: types are removed, not checked. A program runs in a V8 context
without modules and without Deno, in a Deno process without permissions. Beside the language there are timers, `URL`,
`URLSearchParams`, `TextEncoder`, `TextDecoder`, `atob`, `btoa`, `structuredClone`, `crypto.randomUUID` and
`getRandomValues`, and `performance.now`; `fetch` and nearly all of `Deno` are there and refuse. `input` is in scope at
the top level too. A call takes 0.15 ms, a row of many 10 µs; a program that changes built-in objects gets a new
context for each run, which takes 2 ms.

**Python** (`python_engine`; Monty is an interpreter of its own). Sleeps last no time. Tuples come out as lists and
dictionary keys as strings, as JSON has them; sets, bytes, dates, instances, functions, NaN and infinities are errors
that name the type.

Every run sees the program as freshly loaded. One whose functions provably write to nothing that outlives a call
(`loopai.programs.stateless`) is loaded once and then called in the same session, about 0.1 ms a call; any other
is loaded for each run, which adds 0.3 ms for a small program and 3 ms for one with a table of 3,000 entries. Where
`opentelemetry-api` is missing, the sandbox library looks for it at each request, which costs 0.07 ms.

Monty 1.4 understands functions, lambdas, closures, async, comprehensions, match, try, plain classes, f-strings, and
re, json, math, collections, datetime, itertools, functools, unicodedata, random, dataclasses. It refuses `yield`,
`del`, inheritance, properties and `import *`, and has no str.translate, no function as replacement in re.sub, no
bound method as a value (`key=d.get`; write a lambda), no `string`, `enum` or `statistics`.
Built-in functions run near CPython's speed, each step of a loop takes about five times as long.
"""

from .pool import ProgramPool
from .program import Program, ProgramOutcome, UnsupportedLanguage

__all__ = ["Program", "ProgramOutcome", "ProgramPool", "UnsupportedLanguage"]
