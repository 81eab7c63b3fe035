"""The one error of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class CannotLearn(Exception):
    """These examples teach no program; the message says why and what to change.

    `questions` are inputs, with the answers between which their output would decide.
    """

    def __init__(self, reason: str, questions: Sequence[Any] = ()) -> None:
        super().__init__(reason)
        self.questions = questions
