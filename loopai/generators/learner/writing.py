"""Write a learnt model as source: readers, the models' tables and functions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..literals import literal, rounded
from ..parts import Part, carried
from . import certainty, reading
from .fields import READERS, Field
from .learnt import Learnt, LinearModel, MeanModel, RateModel, TreeModel
from .writing_linear import amount_line, linear_source
from .writing_trees import FOLLOW, trees_source

_PATTERNS = {
    "WORD": reading.WORD_PATTERN,
    "WORD_OR_MARK": reading.WORD_OR_MARK_PATTERN,
    "CAPITAL": reading.CAPITAL_PATTERN,
    "DIGIT": reading.DIGIT_PATTERN,
}
_TOKEN_READERS = {
    "words": reading.words,
    "words_and_marks": reading.words_and_marks,
    "trigrams": reading.trigrams,
    "fragments": reading.fragments,
}


def write_part(one: Learnt, function: str, *, rule: bool) -> Part:
    """Return the part that computes one field with a learnt model."""
    prefix = function.removeprefix("answer").strip("_").upper()
    prefix = f"{prefix}_" if prefix else ""
    bodies: list[str] = []
    models = _models(one)
    names = [f"{function}_{place}" for place in range(1, len(models) + 1)] if len(models) > 1 else [function]
    for model, name in zip(models, names):
        own = one if name == function else replace(one, target=replace(one.target, whole=False))
        if isinstance(model, RateModel):
            rate = replace(one, target=replace(one.target, whole=False))
            bodies += [*_model_source(rate, model.model, f"{name}_rate", prefix), _rate_source(own, model, name)]
        else:
            bodies += _model_source(own, model, name, prefix)
    if len(models) > 1:
        mean = f"({' + '.join(f'{name}(fields)' for name in names)}) / {len(models)}"
        told = '    """The mean of what each model gives."""'
        bodies.append(f"def {function}(fields):\n{told}\n{amount_line(one, mean)}")
    blocks = [*_carried(one.fields, [one]), *carried(certainty, bodies), _read(one.fields), *bodies]
    code = "\n\n".join(blocks)
    constants = [
        f'{constant} = re.compile(r"{pattern}")'
        for constant, pattern in _PATTERNS.items()
        if re.search(rf"\b{constant}\b", code)
    ]
    return Part(
        (*(["\n".join(constants)] if constants else []), *blocks),
        f"{function}(read(input))",
        "rule" if rule else "ml",
        one.method,
        f"{one.method}, reading {_read_fields(one.fields)}",
        float(len(code)),
        estimate=not one.target.is_class,
        certain=one.target.is_class,
    )


def _models(one: Learnt) -> tuple[LinearModel | TreeModel | RateModel, ...]:
    return one.model.models if isinstance(one.model, MeanModel) else (one.model,)


def _model_source(one: Learnt, model: LinearModel | TreeModel, name: str, prefix: str) -> list[str]:
    if isinstance(model, LinearModel):
        return [linear_source(one, model, name, prefix)]
    return [*([FOLLOW] if model.summed else []), trees_source(one, model, name, prefix)]


def _rate_source(one: Learnt, model: RateModel, name: str) -> str:
    amount = f"{name}_rate(fields) * ({rounded(model.mean, 7)} if units is None else units)"
    return "\n".join(
        [
            f"def {name}(fields):",
            '    """What each unit gives, times the number of units; their mean where it is missing."""',
            f"    units = fields[{literal(model.field)}]",
            amount_line(one, amount),
        ]
    )


def _read_fields(fields: Sequence[Field]) -> str:
    shown = ", ".join(f"{literal(field.name)} ({field.kind})" for field in fields[:20])
    return shown + (f" and {len(fields) - 20} more" if len(fields) > 20 else "")


def _carried(fields: Sequence[Field], learnt: Sequence[Learnt]) -> list[str]:
    """The source of those functions of `reading` that this program needs."""
    needed: list[Callable[..., object]] = [
        reading.at,
        *(READERS[kind] for kind in dict.fromkeys(field.kind for field in fields)),
        *([reading.number] if any(field.kind == "total" for field in fields) else []),
    ]
    for each in [model for one in learnt for model in _models(one)]:
        model = each.model if isinstance(each, RateModel) else each
        if not isinstance(model, LinearModel):
            continue
        if model.words is not None:
            needed.append(_TOKEN_READERS[model.words.tokens])
            if model.words.pairs:
                needed.append(reading.with_pairs)
        if model.measures:
            needed.append(reading.measures)
    sources = []
    for function in dict.fromkeys(needed):
        source = re.sub(r"  # type: ignore.*", "", inspect.getsource(function))
        sources.append(source.strip())
    return sources


def _read(fields: Sequence[Field]) -> str:
    lines = [
        f"        {literal(field.name)}: {READERS[field.kind].__name__}(at(input, {literal(field.path)})),"
        for field in fields
    ]
    return "\n".join(
        [
            "def read(input):",
            '    """The fields that count; what is missing or of another type is None, a text then ""."""',
            "    return {",
            *lines,
            "    }",
        ]
    )
