"""From the rows of one output field to a part of a program: choose a model on some rows, fit it on these or others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from loopai.exceptions import ConfigurationError

from ..literals import literal
from ..parts import Part
from .fields import Field, find_fields
from .learnt import Learnt, LinearModel, TreeModel
from .targets import OutputTarget
from .writing import write_part


def _missing(error: ModuleNotFoundError) -> ConfigurationError:
    return ConfigurationError(f"Making programs from examples needs {error.name}: pip install scikit-learn")


try:
    import numpy as np
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn brings it, without types

    from .features import Table
    from .models import ModelSpec, fit
    from .selection import Selected, choose
except ModuleNotFoundError as error:
    raise _missing(error) from error


class Learner:
    """The inputs of all examples as a table, which all fields of an output share."""

    def __init__(self, inputs: Sequence[Any], fields: Sequence[Field], random_state: int = 0) -> None:
        self._fields = fields
        self._table = Table(inputs, fields)
        self._random_state = random_state
        self._chosen: dict[str, Selected] = {}

    def part(self, target: OutputTarget, rows: Sequence[int], function: str) -> Part | None:
        """Return the part learnt from `rows`. The kind of model is chosen at the first call for each function.
        Raises `ConfigurationError` if the model needs scikit-learn and it is not installed.
        """
        try:
            return self._part(target, rows, function)
        except ModuleNotFoundError as error:
            raise _missing(error) from error

    def _part(self, target: OutputTarget, rows: Sequence[int], function: str) -> Part | None:
        places = np.array(rows)
        answers = np.array(target.rows)
        if target.is_class:
            # All rows of a label may be held back: the model only knows the labels that it has seen.
            known = sorted({int(answer) for answer in answers[places]})
            if len(known) < 2:
                return None
            answers = np.searchsorted(known, answers).astype(float)
            target = replace(target, labels=tuple(target.labels[label] for label in known))
        # The matrices are small: with several threads, linear algebra would spend most of its time waiting.
        with threadpool_limits(limits=1):
            if function not in self._chosen:
                self._chosen[function] = choose(self._table, answers, len(target.labels), places, self._random_state)
            chosen = self._chosen[function]
            candidate = chosen.spec
            fitted = fit(candidate, self._table, places, answers[places], len(target.labels), self._random_state)
            model = fitted.model()
            if chosen.shift and isinstance(model, (LinearModel, TreeModel)) and len(model.start) == 1:
                model = replace(model, start=(model.start[0] + chosen.shift,))
            method, fields = _method(candidate, target), tuple(self._fields)
            learnt = Learnt(target, model, method, fields, chosen.scale, one_each=fitted.one_each)
        return write_part(learnt, function, rule=candidate.family == "tree")


def fields_of(inputs: Sequence[Any], input_schema: Any) -> list[Field]:
    """Return the fields that models read."""
    return find_fields(inputs, input_schema)


def _method(candidate: ModelSpec, target: OutputTarget) -> str:
    if candidate.parts:
        return "the mean of " + " and ".join(_method(part, target) for part in candidate.parts)
    if candidate.per is not None:
        return f"{_method(replace(candidate, per=None), target)} for each unit of {literal(candidate.per)}"
    if candidate.family == "tree":
        return f"a decision tree of at most {candidate.size} leaves"
    if candidate.family == "boosted":
        return f"gradient-boosted trees of depth {candidate.size}"
    if candidate.family == "histogram":
        return f"gradient-boosted trees of {candidate.size} leaves"
    method = "logistic regression" if target.is_class else "ridge regression"
    if candidate.logarithmic:
        method += " of the logarithm"
    recipe = candidate.recipe
    if recipe is None:
        return method
    tokens = recipe.tokens.replace("_", " ") + (" and pairs of them" if recipe.pairs else "")
    measured = ", measures of the texts" if recipe.measured else ""
    joined = ", all texts read as one" if recipe.joined else ""
    return f"{method} on {tokens} ({recipe.weighting} weights{joined}{measured})"
