"""The cost of a sandbox run of a program proved stateless, which is loaded once, compared with loading it each time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from loopai.programs import Program, ProgramPool

from .executions import emails, given, median_ms, server, spam_program
from .goals import TimesLess
from .measuring import Row, group

PUSHED = """
import re

WEIGHTS = {"free": 3.0, "prize": 4.0, "winner": 4.0, "click": 2.0, "offer": 2.0, "meeting": -3.0, "lunch": -3.0}
WORD = re.compile(r"[a-z]+")


def main(input):
    text = (input["subject"] + " " + input["body"]).lower()
    score = sum(WEIGHTS.get(word, 0.0) for word in WORD.findall(text))
    return {"label": "spam" if score > 1 else "ham"}
"""

# Never called, but a run could leave state for the next one.
KEEPS_SOMETHING = "\nseen = []\n\n\ndef note(value):\n    seen.append(value)\n"


@group("sandbox")
def sandbox(quick: bool) -> Iterator[list[Row]]:
    count = 10 if quick else 60
    inputs = [given(row) for row in emails("dev")]
    with server() as base_url:
        _, generated = spam_program(base_url, 100 if quick else 1000)
    with ProgramPool(processes=1) as pool:

        def row(name: str, code: str, times: float) -> Row:
            rounds = itertools.cycle([inputs[start : start + count] for start in range(0, len(inputs) - count, count)])
            current: list[dict[str, Any]] = next(rounds)

            def runs(program: Program) -> Callable[[Any], object]:
                def run(value: Any) -> None:
                    outcome = pool.run(program, value)
                    assert outcome.ok, outcome.error

                run(inputs[0])  # starts the worker, and reads the program
                return run

            once, anew = runs(Program(code)), runs(Program(code + KEEPS_SOMETHING))

            def proved() -> float:
                nonlocal current
                current = next(rounds)
                return median_ms(once, current)

            return Row(
                f"a run of a {name} program, proved stateless",
                proved,
                "the program loaded anew for each run",
                lambda: median_ms(anew, current),
                "ms",
                TimesLess(times),
            )

        yield [row("generated", generated, 20), row("pushed", PUSHED, 5)]
