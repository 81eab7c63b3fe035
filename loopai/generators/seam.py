"""What every generator takes and returns, as plain data that can be pickled."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

_BRANCHES = (ast.If, ast.For, ast.While, ast.IfExp, ast.ExceptHandler, ast.comprehension)


@dataclass(frozen=True)
class TaskDescription:
    """The task a program is made for. `known_inputs` are inputs without an output, such as those executed before.

    `id` is the server's, for a generator that is a service of its own.
    """

    name: str
    description: str = ""
    input_schema: Any = None
    output_schema: Any = None
    accuracy_target: float = 0.0
    known_inputs: Sequence[Any] = ()
    id: str = ""


@dataclass(frozen=True)
class Budget:
    """Limits of one generation: `seconds` of time, and how many examples are read."""

    seconds: float = 120.0
    examples: int = 100_000


@dataclass(frozen=True)
class Previous:
    """The version before: its source, its score, and whether a language model or a service wrote it.

    A generator that improves programs starts from it.
    """

    code: str
    confidence_score: float
    by_model: bool = False


@dataclass(frozen=True)
class Failure:
    """An input for which the previous version was wrong: what it returned, or its error, and what is right."""

    input: Any
    output: Any
    expected: Any = None
    error: str | None = None


@dataclass(frozen=True)
class Question:
    """An input for which programs that fit all examples disagree. Its output, as an example, decides."""

    input: Any
    answers: tuple[Any, ...]


@dataclass(frozen=True)
class FieldReport:
    """How one field of the output is made. `score` is its own share of exact answers on held-back examples.

    `recall` holds the share of right answers for each label, where labels are chosen. With `estimate` the score is the
    R² of a regression.
    """

    name: str
    generator: str
    score: float
    told: str
    recall: tuple[tuple[Any, float], ...] = ()
    estimate: bool = False


@dataclass(frozen=True)
class Usage:
    """What making a program took of a language model: requests answered, and tokens read and written."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True)
class Candidate:
    """A program, as source in `language`, with where it comes from.

    `confidence_score` is the share of held-back examples for which it was exact; the R² of an estimate. `fits_examples`
    says whether it is exact on all examples (an estimate never is). `cost` is in dollars, `generation_time_sec` in
    seconds. `notes` are sentences for people. Where `verified` is false no example judged the program, and the score
    is 0.5 at most; `draft` says that it is not to become active by itself.
    """

    code: str
    confidence_score: float
    synthesis_strategy: str
    model: str
    summary: str
    fits_examples: bool
    language: str = "python"
    provider: str = "local"
    cost: float = 0.0
    generation_time_sec: float = 0.0
    lines_of_code: int = 0
    cyclomatic_complexity: int = 1
    estimate: bool = False
    fields: tuple[FieldReport, ...] = ()
    questions: tuple[Question, ...] = ()
    notes: tuple[str, ...] = ()
    usage: Usage | None = None
    verified: bool = True
    draft: bool = False

    def better_than(self, previous: Previous) -> bool:
        """Return whether this may replace the previous version: it must score higher, or the same and be shorter."""
        if self.confidence_score != previous.confidence_score:
            return self.confidence_score > previous.confidence_score
        return len(self.code) < len(previous.code)


@dataclass(frozen=True)
class Refusal:
    """Why there is no program, with what to change. `questions` name inputs whose output would decide."""

    reason: str
    questions: tuple[Question, ...] = ()


class Generator(Protocol):
    """Makes a program for a task. Called in a process of its own: takes and returns plain data."""

    def generate(
        self,
        task: TaskDescription,
        examples: Sequence[Any],
        previous: Previous | None = None,
        failures: Sequence[Failure] = (),
        budget: Budget | None = None,
    ) -> Candidate | Refusal:
        """Return a program, or why there is none."""


def lines_of_code(code: str, comment: str = "#") -> int:
    """Return how many lines are neither blank nor only a comment, which `comment` begins."""
    return sum(1 for line in code.splitlines() if line.strip() and not line.strip().startswith(comment))


def cyclomatic_complexity(code: str) -> int:
    """Return decisions plus one, over the whole program (McCabe)."""
    decisions = 1
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, _BRANCHES):
            decisions += 1
        elif isinstance(node, ast.BoolOp):
            decisions += len(node.values) - 1
    return decisions
