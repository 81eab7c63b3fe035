"""Make programs: from a task and its examples to Python source that needs nothing but itself.

Each generator is a module of its own; which one makes which field of the output, and how good the result is, one judge
decides for all. Running programs for users is not done here.
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
