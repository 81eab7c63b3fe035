"""Training as the tests of learners do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from loopai.generators import Candidate, CannotLearn, Refusal, TaskDescription, generate

Run = Callable[[Candidate, Sequence[Any]], list[Any]]


def train(*, name: str, description: str, input_schema: Any, output_schema: Any, examples: Any) -> Candidate:
    """The program for these examples, which must be one."""
    made = generate(TaskDescription(name, description, input_schema, output_schema), examples)
    if isinstance(made, Refusal):
        raise CannotLearn(made.reason)
    return made
