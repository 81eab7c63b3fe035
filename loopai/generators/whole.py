"""Whole programs made elsewhere: which examples are shown or held back, and how well a program does on them.

Making programs, and deciding what to do with them, is not done here.
"""

from __future__ import annotations

import ast
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..exceptions import ConfigurationError
from ..programs import Program, ProgramOutcome, ProgramPool, UnsupportedLanguage
from ..programs.input_check import InputCheck, SchemaTooLarge
from ..programs.languages import language as known_language
from .judging import FEW, HELD_SHARE
from .literals import comment, docstring, literal
from .seam import TaskDescription
from .values import same

RUN_MS = 2000
"""Time limit for one run: a program that needs more is not small."""

TRIAL_SECONDS = 20.0
"""Time limit for all inputs of a trial; inputs that have not run by then count as failed."""

NOT_RUN = "not run: the program takes too long"
MOST_JUDGED = 2000
MOST_CASES = 5

Kind = Literal["loads", "raises", "schema", "wrong"]


@dataclass(frozen=True)
class Example:
    """An input and its right output."""

    input: Any
    output: Any


@dataclass(frozen=True)
class Case:
    """An input for which a program was wrong."""

    input: Any
    output: Any = None
    expected: Any = None
    error: str | None = None


@dataclass(frozen=True)
class Fault:
    """One kind of problem with a program: the reason why it does not load, or some inputs."""

    kind: Kind
    reason: str = ""
    cases: tuple[Case, ...] = ()


@dataclass(frozen=True)
class Trial:
    """The result of a trial: whether the program loads, the shares of inputs that ran and were right, a first fault."""

    loads: bool
    ran: float
    right: float
    fault: Fault | None


def split(
    examples: Sequence[Example], most: int, seed: int = 0, failed: Sequence[Any] = ()
) -> tuple[list[Example], list[Example]]:
    """Return the examples that may be shown, at most `most`, spread over all answers, and those that never are.

    From ten examples on 30 % are held back, from three on at least one; a shown input is never among them. `failed`
    are inputs that the previous version gets wrong: some of these are shown first, and as many are held back as of
    the others.
    """
    count = len(examples)
    held_back = _held_back(count)
    order = list(range(count))
    random.Random(seed).shuffle(order)  # noqa: S311 not a secret
    answers: dict[str, list[int]] = {}
    for at in order:
        answers.setdefault(_key(examples[at].output), []).append(at)
    # Take one of each answer, then a second of each, and so on; the order of the answers is random.
    turns = [at for row in _columns(list(answers.values())) for at in row]
    wrong = {_key(value) for value in failed}
    missed = [at for at in turns if _key(examples[at].input) in wrong]
    may_be_shown = len(missed) - _held_back(len(missed))
    kept = set(missed[may_be_shown:])
    turns = [*missed[: min(MOST_CASES, may_be_shown)], *(at for at in turns if at not in kept), *kept]
    chosen = set(list(dict.fromkeys(turns))[: min(most, count - held_back)])
    shown = [examples[at] for at in range(count) if at in chosen]
    known = {_key(one.input) for one in shown}
    held = [examples[at] for at in range(count) if at not in chosen and _key(examples[at].input) not in known]
    return shown, held[:: max(1, -(-len(held) // MOST_JUDGED))]


def _held_back(count: int) -> int:
    """How many of `count` examples are held back."""
    return 0 if count < 3 else math.ceil(count * HELD_SHARE) if count >= FEW else max(1, round(count * HELD_SHARE))


class Bench:
    """Runs whole programs of one task in the sandbox, until `deadline` (`time.monotonic`) or until `ended()` holds."""

    def __init__(
        self,
        pool: ProgramPool,
        task: TaskDescription,
        deadline: float,
        run_ms: int = RUN_MS,
        ended: Callable[[], bool] = lambda: False,
    ) -> None:
        self._pool = pool
        self._ended = ended
        self._deadline = deadline
        self._run_ms = run_ms
        try:
            self._check = InputCheck(task.output_schema if task.output_schema is not None else True)
        except SchemaTooLarge:
            self._check = InputCheck(True)

    def try_on_examples(self, program: Program, examples: Sequence[Example]) -> Trial:
        """Run a program on examples; only an exact output is right."""
        return self._tried(program, [(one.input, one) for one in examples])

    def try_on_inputs(self, program: Program, inputs: Sequence[Any]) -> Trial:
        """Run a program on inputs with unknown outputs; an output that fits the schema counts as right."""
        return self._tried(program, [(value, None) for value in inputs])

    def _tried(self, program: Program, rows: Sequence[tuple[Any, Example | None]]) -> Trial:
        try:
            reason = self._pool.check(program)
        except (UnsupportedLanguage, ConfigurationError) as error:
            reason = str(error)
        if reason is not None:
            return Trial(False, 0.0, 0.0, Fault("loads", reason))
        if not rows:
            return Trial(True, 1.0, 1.0, None)
        outcomes = self.outcomes(program, [value for value, _ in rows])
        cases: dict[Kind, list[Case]] = {"raises": [], "schema": [], "wrong": []}
        for (value, example), outcome in zip(rows, outcomes):
            expected = None if example is None else example.output
            if outcome.error is not None:
                cases["raises"].append(Case(value, None, expected, outcome.error))
                continue
            misfits = self._check.errors(outcome.output)
            if misfits:
                path, text = misfits[0]
                shown = f"{path.replace('input', 'output', 1)}: {text}"
                cases["schema"].append(Case(value, outcome.output, expected, shown))
            elif example is not None and not same(outcome.output, expected):
                cases["wrong"].append(Case(value, outcome.output, expected))
        failed = sum(map(len, cases.values()))
        fault = next((Fault(kind, "", tuple(found[:MOST_CASES])) for kind, found in cases.items() if found), None)
        return Trial(True, 1 - len(cases["raises"]) / len(rows), 1 - failed / len(rows), fault)

    def outcomes(self, program: Program, inputs: Sequence[Any], seconds: float = TRIAL_SECONDS) -> list[ProgramOutcome]:
        """Run a program on inputs; those that have not run after `seconds` get the error `NOT_RUN`."""
        until = min(self._deadline, time.monotonic() + seconds)

        def run(values: Sequence[Any]) -> list[ProgramOutcome]:
            return self._pool.run_many(
                program,
                values,
                timeout_ms=self._run_ms,
                max_concurrency=2,
                stop=lambda: NOT_RUN if time.monotonic() > until or self._ended() else None,
            )

        first = run(inputs[:2])
        # A program that never ends is stopped early, not once per input.
        if all(outcome.error is not None and outcome.latency_ms >= self._run_ms for outcome in first):
            return [*first, *(ProgramOutcome(None, NOT_RUN, 0.0) for _ in inputs[2:])]
        return [*first, *run(inputs[2:])]


def with_head(code: str, language: str, told: Sequence[str]) -> str:
    """Return the program with the sentences of `told` in front: a docstring in Python, comments elsewhere."""
    if known_language(language).name != "python":
        mark = known_language(language).comment
        return "\n".join([mark + line[1:] for text in told for line in comment(text)] + [code])
    lines = [line.strip().strip('"').rstrip() for text in told for line in docstring(text)]
    head = "\n".join(['"""' + lines[0], *(line for line in lines[1:] if line), '"""'])
    return f"{head}\n\n{_without_docstring(code)}"


def below_target(score: float, target: float) -> str:
    """Return the sentence that says so."""
    return f"The score {score:.2f} is below the accuracy target {target:.2f}."


def task_line(task: TaskDescription) -> str:
    """Return what a program is for, as the first line of its docstring."""
    return f"Task {literal(task.name)}: {' '.join(task.description.split())[:600]}"


def _without_docstring(code: str) -> str:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return code
    first = tree.body[0] if tree.body else None
    if ast.get_docstring(tree, clean=False) is None or first is None:
        return code
    return "\n".join(code.splitlines()[first.end_lineno :]).lstrip("\n") + "\n"


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _columns(groups: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    for place in range(max(map(len, groups), default=0)):
        yield [group[place] for group in groups if place < len(group)]


Sleep = Callable[[float], None]
"""Waits this many seconds; passed in, so that tests do not wait."""
