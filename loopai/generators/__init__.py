"""Make programs: from a task and its examples to Python source that needs no other files or packages.

Each generator is a module of its own. One judge decides which generator makes which field of the output, and how good
the result is. Programs are run for users elsewhere.
"""

from __future__ import annotations

from .composing import generate
from .errors import CannotLearn
from .seam import (
    Budget,
    Candidate,
    Failure,
    FieldReport,
    Generator,
    Previous,
    Question,
    Refusal,
    TaskDescription,
    Usage,
    cyclomatic_complexity,
    lines_of_code,
)

__all__ = [
    "Budget",
    "Candidate",
    "CannotLearn",
    "Failure",
    "FieldReport",
    "Generator",
    "Previous",
    "Question",
    "Refusal",
    "TaskDescription",
    "Usage",
    "cyclomatic_complexity",
    "generate",
    "lines_of_code",
]
