"""What training gives back: a program's source with the numbers that an artifact carries."""

from __future__ import annotations

import ast
from dataclasses import dataclass

_BRANCHES = (ast.If, ast.For, ast.While, ast.IfExp, ast.ExceptHandler, ast.comprehension)


@dataclass(frozen=True)
class TrainedProgram:
    """A program made from examples.

    `confidence_score` is the cross-validated accuracy, for numbers the share of their variance explained (R², at
    least 0), for several output fields that of the worst. `generation_time_sec` is in seconds; `summary` is one
    line for people.
    """

    code: str
    language: str
    confidence_score: float
    strategy: str
    lines_of_code: int
    cyclomatic_complexity: int
    generation_time_sec: float
    summary: str


def lines_of_code(code: str, comment: str = "#") -> int:
    """Return how many lines are neither blank nor only a comment, which `comment` begins."""
    return sum(1 for line in code.splitlines() if line.strip() and not line.strip().startswith(comment))


def cyclomatic_complexity(code: str) -> int:
    """Decisions plus one, over the whole program (McCabe)."""
    decisions = 1
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, _BRANCHES):
            decisions += 1
        elif isinstance(node, ast.BoolOp):
            decisions += len(node.values) - 1
    return decisions
