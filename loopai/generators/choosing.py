"""Which generator makes the program: the local ones first, then the configured model or service. The better wins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..exceptions import ConfigurationError
from .composing import generate
from .seam import Budget, Candidate, Failure, Generator, Previous, Refusal, TaskDescription

SEARCHING = "looking for a program that the examples teach"
ASKING = "asking for a program"
"""The stages of making a program."""


def generate_with(
    asked: Generator | None,
    task: TaskDescription,
    examples: Sequence[Any],
    previous: Previous | None = None,
    failures: Sequence[Failure] = (),
    budget: Budget | None = None,
    tell: Callable[[str], None] = lambda stage: None,
) -> Candidate | Refusal:
    """Return the best program for a task.

    `asked`, a language model or a service, is used if the local generators' program does not fit all examples or
    scores below the task's accuracy target. Otherwise nothing is sent and nothing is spent. `asked` improves
    `previous`; the local generators start from scratch, and the caller decides whether the result replaces that
    version. `tell` is called with each stage. Raises `ConfigurationError` if a library is missing.
    """
    tell(SEARCHING)
    if asked is None:
        return generate(task, examples, None, failures, budget)
    try:
        local = generate(task, examples, None, failures, budget)
    except ConfigurationError as error:  # the other generator may not need scikit-learn
        local = Refusal(str(error))
    if isinstance(local, Candidate) and local.fits_examples and local.confidence_score >= task.accuracy_target:
        return local
    tell(ASKING)
    other = asked.generate(task, examples, previous, failures)
    if isinstance(local, Refusal):
        if isinstance(other, Refusal) and examples:
            return Refusal(f"{other.reason} Without it: {local.reason}", local.questions)
        return other
    if isinstance(other, Refusal):
        return replace(local, notes=(*local.notes, f"No other program was made: {other.reason}"))
    return _better(local, other)


def _better(local: Candidate, other: Candidate) -> Candidate:
    """Return the program with more exact answers, of equals the shorter; a verified program beats an unverified one."""
    if not other.verified:
        return local
    if other.confidence_score != local.confidence_score:
        return other if other.confidence_score > local.confidence_score else local
    return min(local, other, key=lambda candidate: len(candidate.code))
