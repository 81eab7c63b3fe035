"""Decide whether a task's next version is better than its active one: both are compared on all current examples.

Running programs, and activating or discarding versions, is done elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..programs import ProgramOutcome
from .judging import FEW, HELD_SHARE
from .seam import Failure
from .values import same
from .whole import MOST_JUDGED, NOT_RUN, Example

MOST_FAILURES = 200
"""Most examples with wrong outputs of the active version that a generator is shown."""

ESTIMATE_MARGIN = 0.02
"""How far two scores of the same estimate may differ by chance."""


@dataclass(frozen=True)
class Results:
    """What a program returned for a task's examples; examples it was not run on are left out."""

    examples: Sequence[Example]
    outcomes: Sequence[ProgramOutcome]

    @classmethod
    def of(cls, examples: Sequence[Example], outcomes: Sequence[ProgramOutcome]) -> Results:
        """Pair the examples with their outcomes."""
        ran = [(example, one) for example, one in zip(examples, outcomes) if one.error != NOT_RUN]
        return cls([example for example, _ in ran], [one for _, one in ran])

    def exact(self) -> list[bool]:
        """For each example whether the output is exactly right."""
        return [_is_right(example, one) for example, one in zip(self.examples, self.outcomes)]

    def share(self, *, estimate: bool = False) -> float:
        """The share of right outputs; for an estimate R², with several fields that of the worst."""
        if not self.examples:
            return 0.0
        if not estimate:
            return sum(self.exact()) / len(self.examples)
        wanted = [example.output for example in self.examples]
        return min(_shares(wanted, [one.output for one in self.outcomes]), default=0.0)

    def failures(self) -> list[Failure]:
        """Return the examples with wrong outputs, at most `MOST_FAILURES`."""
        wrong = (pair for pair, right in zip(zip(self.examples, self.outcomes), self.exact()) if not right)
        found = [Failure(example.input, one.output, example.output, one.error) for example, one in wrong]
        return found[:MOST_FAILURES]


@dataclass(frozen=True)
class Standing:
    """How good a version is: `right` on all examples, and `score` on those that it was not made from."""

    right: float
    score: float


def standing_of_active(
    results: Results, seen: Sequence[bool], held_back_score: float, *, estimate: bool, same_kind: bool
) -> Standing:
    """Return how good the active version is. `seen` says which examples it was made from.

    For these, its original score counts, as it was measured on held-back examples; the other examples are its test.
    With `same_kind` both versions are estimates, or neither is.
    """
    right = results.share(estimate=estimate)
    if not same_kind or not any(seen):
        return Standing(right, right)
    if estimate:
        return Standing(right, held_back_score)
    new = [hit for hit, known in zip(results.exact(), seen) if not known]
    known = len(results.examples) - len(new)
    return Standing(right, (known * held_back_score + sum(new)) / len(results.examples))


def is_better(new: Standing, active: Standing, examples: int, *, own: bool, estimate: bool) -> bool:
    """Return whether a new version may replace the active one.

    It must be right on more of the examples and not clearly worse on those that it was not made from; or clearly
    better on the latter. `own` says that the active version was written by the user: only a better score replaces
    it. `examples` is the number of examples that both were run on.
    """
    if active.right >= 1.0:
        return False
    margin = 0.0 if own else ESTIMATE_MARGIN if estimate else _chance(active.score, examples)
    if new.right > active.right:
        return new.score >= active.score - margin
    return new.score > active.score + margin


def _chance(share: float, examples: int) -> float:
    """Twice the standard error of a share that is measured on the held-back part of this many examples."""
    held = examples if examples < FEW else min(MOST_JUDGED, math.ceil(examples * HELD_SHARE))
    return 2 * math.sqrt(max(0.0, share * (1 - share)) / max(1, held))


def _is_right(example: Example, outcome: ProgramOutcome) -> bool:
    return outcome.error is None and same(outcome.output, example.output)


def _shares(wanted: Sequence[Any], given: Sequence[Any]) -> Iterator[float]:
    """The share of right values of each field: R² for numbers, exact answers for anything else."""
    if wanted and all(isinstance(value, dict) for value in wanted):
        for key in dict.fromkeys(key for value in wanted for key in value):
            yield from _shares(
                [value.get(key) for value in wanted],
                [value.get(key) if isinstance(value, dict) else None for value in given],
            )
    elif all(_is_number(value) for value in wanted):
        mean = sum(wanted) / len(wanted)
        total = sum((value - mean) ** 2 for value in wanted)
        missed = sum(((found if _is_number(found) else mean) - value) ** 2 for found, value in zip(given, wanted))
        yield max(0.0, 1 - missed / total) if total else float(not missed)
    else:
        yield sum(map(same, given, wanted)) / len(wanted)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
