"""The one error of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class CannotLearn(Exception):
    """No program can be learnt from these examples; the message says why and what to change.

    `questions` are inputs whose output would decide between several possible answers.
    """

    def __init__(self, reason: str, questions: Sequence[Any] = ()) -> None:
        super().__init__(reason)
        self.questions = questions
