"""The way from examples to a program: read, check, choose, fit, write. scikit-learn is needed from here on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from loopai.exceptions import ConfigurationError

from .errors import CannotLearn
from .examples import check_contradictions, check_examples, read_examples
from .fields import Field, find_fields
from .learnt import Learnt
from .targets import OutputTarget, find_targets
from .trained import TrainedProgram, cyclomatic_complexity, lines_of_code
from .writing import describe, write_program

try:
    import numpy as np
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn brings it, without types

    from .features import Table
    from .models import Candidate, fit
    from .selection import choose
except ModuleNotFoundError as error:
    raise ConfigurationError(f"Making programs from examples needs {error.name}: pip install scikit-learn") from error


def learn(
    *,
    name: str,
    description: str,
    input_schema: Any,
    output_schema: Any,
    examples: Sequence[Any],
    random_state: int,
) -> TrainedProgram:
    """See `loopai.local.training.train`."""
    started = time.perf_counter()
    inputs, outputs = read_examples(examples)
    targets = find_targets(outputs, output_schema)
    check_examples(inputs, targets)
    fields = find_fields(inputs, input_schema)
    check_contradictions(inputs, targets, fields)
    if not fields:
        raise CannotLearn(
            "The examples' inputs are all the same, or hold nothing but nulls: give inputs that differ in a text, "
            "a number, a category or a boolean."
        )
    table = Table(inputs, fields)
    learnt, folds = [], 0
    # The matrices are small: threads of the linear algebra would spend most of their time waiting for each other,
    # several times what the work itself takes on a busy machine.
    with threadpool_limits(limits=1):
        for target in targets:
            one, divided = _learn_target(target, table, fields, random_state)
            learnt.append(one)
            folds = max(folds, divided)
    code = write_program(name=name, description=description, examples=len(inputs), folds=folds, learnt=learnt)
    varying = [one for one in learnt if one.model is not None]
    summary = f"Learnt from {len(inputs):,} examples. " + " ".join(
        f"{one.target.name[0].upper()}{one.target.name[1:]}: {describe(one, folds)}." for one in varying
    )
    return TrainedProgram(
        code=code,
        language="python",
        confidence_score=round(min(one.score for one in varying), 4),
        strategy="ml",
        lines_of_code=lines_of_code(code),
        cyclomatic_complexity=cyclomatic_complexity(code),
        generation_time_sec=round(time.perf_counter() - started, 3),
        summary=summary,
    )


def _learn_target(target: OutputTarget, table: Table, fields: Sequence[Field], random_state: int) -> tuple[Learnt, int]:
    if target.is_constant:
        return Learnt(target, None, "constant", 1.0, 1.0, ()), 0
    answers = np.array(target.rows)
    choice = choose(table, answers, len(target.labels), random_state)
    fitted = fit(choice.candidate, table, np.arange(table.size), answers, len(target.labels), random_state)
    method = _method(choice.candidate, target)
    return Learnt(target, fitted.model(), method, choice.score, choice.baseline, tuple(fields)), choice.folds


def _method(candidate: Candidate, target: OutputTarget) -> str:
    if candidate.family == "tree":
        return f"a decision tree of at most {candidate.size} leaves"
    if candidate.family == "boosted":
        return f"gradient-boosted trees of depth {candidate.size}"
    method = "logistic regression" if target.is_class else "ridge regression"
    recipe = candidate.recipe
    if recipe is None:
        return method
    tokens = recipe.tokens.replace("_", " ") + (" and pairs of them" if recipe.pairs else "")
    measured = ", measures of the texts" if recipe.measured else ""
    joined = ", all texts read as one" if recipe.joined else ""
    return f"{method} on {tokens} ({recipe.weighting} weights{joined}{measured})"
