"""What every generator takes and returns: plain data that can be pickled."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

_BRANCHES = (ast.If, ast.For, ast.While, ast.IfExp, ast.ExceptHandler, ast.comprehension)


@dataclass(frozen=True)
class TaskDescription:
    """The task a program is made for. `known_inputs` are inputs without an output, such as earlier executions.

    `id` is the server's id, for a generator that is an external service.
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
    """Limits of one generation: `seconds` of time, and the number of examples to read."""

    seconds: float = 120.0
    examples: int = 100_000


@dataclass(frozen=True)
class Previous:
    """The previous version: its source, its score, and whether a language model or a service wrote it.

    A generator that improves programs starts from it.
    """

    code: str
    confidence_score: float
    by_model: bool = False


@dataclass(frozen=True)
class Failure:
    """An input for which the previous version was wrong: its output or error, and the right output."""

    input: Any
    output: Any
    expected: Any = None
    error: str | None = None


@dataclass(frozen=True)
class Question:
    """An input for which programs that fit all examples disagree. Giving its output as an example decides."""

    input: Any
    answers: tuple[Any, ...]


@dataclass(frozen=True)
class FieldReport:
    """How one field of the output is made. `score` is its own share of exact answers on held-back examples.

    `recall` holds the share of right answers for each label, if labels are chosen. With `estimate` the score is the
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
    """How much of a language model was used: answered requests, and tokens read and written."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True)
class Candidate:
    """A program, as source in `language`, and where it comes from.

    `confidence_score` is the share of held-back examples for which it was exact; for an estimate, R². `fits_examples`
    says whether it is exact on all examples (an estimate never is). `cost` is in dollars, `generation_time_sec` in
    seconds. `notes` are sentences for people. If `verified` is false, no example judged the program, and the score
    is at most 0.5; a `draft` must not become active by itself.
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
        """Return whether this may replace the previous version: the score must be higher, or equal and it shorter."""
        if self.confidence_score != previous.confidence_score:
            return self.confidence_score > previous.confidence_score
        return len(self.code) < len(previous.code)


@dataclass(frozen=True)
class Refusal:
    """Why there is no program, and what to change. `questions` name inputs whose output would decide."""

    reason: str
    questions: tuple[Question, ...] = ()


class Generator(Protocol):
    """Makes a program for a task. Called in a separate process: takes and returns plain data."""

    def generate(
        self,
        task: TaskDescription,
        examples: Sequence[Any],
        previous: Previous | None = None,
        failures: Sequence[Failure] = (),
        budget: Budget | None = None,
    ) -> Candidate | Refusal:
        """Return a program, or the reason why there is none."""


def lines_of_code(code: str, comment: str = "#") -> int:
    """Return how many lines are neither blank nor only a comment; `comment` starts a comment."""
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
