"""The cost of `import loopai` for a program that has not imported anything yet."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator

from .measuring import Goal, Row, group

# The minimum that any typed client over httpx imports.
LEAST = "import httpx; from pydantic import BaseModel"


def milliseconds(statement: str, times: int) -> float:
    """The median over `times` new interpreters, start of the interpreter not counted."""
    timed = f"import time; started = time.perf_counter(); {statement}; print((time.perf_counter() - started) * 1000)"
    found = [
        float(subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True).stdout)
        for _ in range(times)
    ]
    return statistics.median(found)


@group("imports")
def imports(quick: bool) -> Iterator[list[Row]]:
    times = 1 if quick else 7
    for statement in ("import loopai", LEAST):
        milliseconds(statement, 1)  # compiles the bytecode before anything is timed
    yield [
        Row(
            "import loopai",
            lambda: milliseconds("import loopai", times),
            LEAST,
            lambda: milliseconds(LEAST, times),
            "ms",
            Goal(1.3),
        )
    ]
