"""The judge: runs parts in the sandbox on examples that the generator did not see; the results must be exact."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..programs import Program, ProgramOutcome, ProgramPool
from .parts import Part, assemble
from .values import same

HELD_SHARE = 0.3
FEW = 10  # below this many examples each one is held back in turn
_TIMEOUT_MS = 5000
_MOST_JUDGED = 2000
_MANY = 100  # rows from which a second worker is worth starting

Maker = Callable[[Sequence[int]], "Part | None"]


@dataclass(frozen=True)
class Verdict:
    """The result on the held-back examples.

    `score` is the share of exact answers, or R² for an estimate; `answered` the share that did not fail; `recall` the
    share of right answers for each label.
    """

    score: float
    answered: float
    recall: tuple[tuple[Any, float], ...] = ()


class Judge:
    """Runs parts on held-back rows of one task."""

    def __init__(self, pool: ProgramPool, inputs: Sequence[Any], seed: int = 0) -> None:
        self._pool = pool
        self._inputs = inputs
        self._seed = seed

    def run(self, code: str, rows: Sequence[int]) -> list[ProgramOutcome]:
        """Run a program on these rows' inputs."""
        inputs = [self._inputs[row] for row in rows]
        return self._pool.run_many(
            Program(code), inputs, timeout_ms=_TIMEOUT_MS, max_concurrency=2 if len(rows) > _MANY else 1
        )

    def fits(self, part: Part, rows: Sequence[int], values: Mapping[int, Any]) -> bool:
        """Return whether a part gives exactly these values."""
        outcomes = self.run(alone(part), rows)
        return all(one.error is None and same(one.output, values[row]) for one, row in zip(outcomes, rows))

    def judge(self, make: Maker, rows: Sequence[int], values: Mapping[int, Any]) -> Verdict:
        """Make a part from some of the rows with `make`, and judge it on the others."""
        given: list[tuple[int, ProgramOutcome | None]] = []
        estimate = False
        for shown, held in self._folds(rows, values):
            part = make(shown)
            if part is None:
                given += [(row, None) for row in held]
                continue
            estimate = estimate or part.estimate
            given += zip(held, self.run(alone(part), held))
        if not given:
            return Verdict(0.0, 0.0)
        right = [one is not None and one.error is None and same(one.output, values[row]) for row, one in given]
        answered = sum(1 for _, one in given if one is not None and one.error is None) / len(given)
        if estimate:
            return Verdict(_r2(given, values), answered)
        return Verdict(sum(right) / len(given), answered, _recall(given, right, values))

    def _folds(self, rows: Sequence[int], values: Mapping[int, Any]) -> list[tuple[list[int], list[int]]]:
        if len(rows) < FEW:
            return [([row for row in rows if row != held], [held]) for held in rows] if len(rows) > 1 else []
        shuffled = list(rows)
        random.Random(self._seed).shuffle(shuffled)  # noqa: S311 not a secret
        # Each label keeps its share: sort stably by value, then hold back about every third row.
        shuffled.sort(key=lambda row: str(values[row]))
        held_rows, due = set(), 0.0
        for row in shuffled:
            due += HELD_SHARE
            if due >= 1:
                held_rows.add(row)
                due -= 1
        held = [row for row in rows if row in held_rows]
        shown = [row for row in rows if row not in held_rows]
        return [(shown, held[:: max(1, -(-len(held) // _MOST_JUDGED))])]


def alone(part: Part) -> str:
    """Return a program that gives one part's value."""
    return assemble([part.told], [part], ["def main(input):", f"    return {part.value}"])


def _r2(given: Sequence[tuple[int, ProgramOutcome | None]], values: Mapping[int, Any]) -> float:
    wanted = [float(values[row]) for row, _ in given]
    mean = sum(wanted) / len(wanted)
    total = sum((value - mean) ** 2 for value in wanted)
    missed = 0.0
    for (_, one), value in zip(given, wanted):
        output = one.output if one is not None and isinstance(one.output, (int, float)) else mean
        missed += (float(output) - value) ** 2
    return max(0.0, 1 - missed / total) if total else 0.0


def _recall(
    given: Sequence[tuple[int, ProgramOutcome | None]], right: Sequence[bool], values: Mapping[int, Any]
) -> tuple[tuple[Any, float], ...]:
    labels: dict[str, tuple[Any, list[bool]]] = {}
    for (row, _), hit in zip(given, right):
        labels.setdefault(repr(values[row]), (values[row], []))[1].append(hit)
    if len(labels) > 50 or len(labels) > len(given) / 2:
        return ()
    return tuple((value, sum(hits) / len(hits)) for value, hits in labels.values())
