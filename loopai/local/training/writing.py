"""From what was learnt to a program's source: header, readers, the models' tables and functions, `main`."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Sequence

from . import reading
from .fields import READERS, Field
from .learnt import Learnt, LinearModel, TreeModel
from .literals import WIDTH, identifier, literal
from .writing_linear import linear_source
from .writing_trees import FOLLOW, trees_source

_DESCRIPTION = 600  # characters of the task's description that the header quotes
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
}


def write_program(*, name: str, description: str, examples: int, folds: int, learnt: Sequence[Learnt]) -> str:
    """The whole program."""
    fields = list(dict.fromkeys(field for one in learnt for field in one.fields))
    functions = _function_names(learnt)
    bodies, answers = [], []
    for one, function in zip(learnt, functions):
        if one.model is None:
            answers.append(literal(one.target.labels[0]))
            continue
        prefix = "" if one.target.key is None else function.removeprefix("answer_").upper() + "_"
        if isinstance(one.model, TreeModel):
            if one.model.summed and FOLLOW not in bodies:
                bodies.append(FOLLOW)
            bodies.append(trees_source(one, one.model, function, prefix))
        else:
            bodies.append(linear_source(one, one.model, function, prefix))
        answers.append(f"{function}(fields)")
    carried = "\n\n\n".join(_carried(fields, learnt))
    main = _main(learnt, answers)
    code = "\n\n\n".join([carried, _read(fields), *bodies, main])
    constants = "".join(
        f'{constant} = re.compile(r"{pattern}")\n'
        for constant, pattern in _PATTERNS.items()
        if re.search(rf"\b{constant}\b", code)
    )
    imports = "".join(
        f"{line}\n"
        for line, used in (
            ("import math", "math." in code),
            ("import re", bool(constants)),
            ("from collections import Counter", "Counter(" in code),
        )
        if used
    )
    header = _header(name, description, examples, folds, learnt, fields)
    return "\n".join(part for part in (header, imports, constants) if part) + "\n\n" + code + "\n"


def _function_names(learnt: Sequence[Learnt]) -> list[str]:
    names: list[str] = []
    for one in learnt:
        name = "answer" if one.target.key is None else f"answer_{identifier(one.target.key)}"
        while name in names:
            name += "_"
        names.append(name)
    return names


def _header(
    name: str, description: str, examples: int, folds: int, learnt: Sequence[Learnt], fields: Sequence[Field]
) -> str:
    told = "".join(letter for letter in " ".join(description.split()) if letter.isprintable())
    if len(told) > _DESCRIPTION:
        told = told[:_DESCRIPTION].rstrip() + " …"
    lines = [f"Task {literal(name)}: {told}", "", f"Learnt by loopai from {examples:,} examples."]
    for one in learnt:
        lines.append(f"{one.target.name[0].upper()}{one.target.name[1:]}: {describe(one, folds)}.")
    read = ", ".join(f"{literal(field.name)} ({field.kind})" for field in fields[:40])
    if len(fields) > 40:
        read += f" and {len(fields) - 40} more"
    lines.append(f"Fields read: {read or 'none'}.")
    return "".join(f"# {line}".rstrip() + "\n" for told in lines for line in textwrap.wrap(told, WIDTH - 2) or [""])


def describe(one: Learnt, folds: int) -> str:
    """The method and its score in words."""
    if one.model is None:
        return f"always {literal(one.target.labels[0])}, as in every example"
    if one.target.is_class:
        return (
            f"{one.method}; cross-validated accuracy ({folds} folds) {one.score:.3f}, "
            f"always giving the commonest answer {one.baseline:.3f}"
        )
    return f"{one.method}; cross-validated R² ({folds} folds) {one.score:.3f}"


def _carried(fields: Sequence[Field], learnt: Sequence[Learnt]) -> list[str]:
    """The source of the functions of `reading` that this program needs."""
    needed: list[Callable[..., object]] = [
        reading.at,
        *(READERS[kind] for kind in dict.fromkeys(field.kind for field in fields)),
    ]
    models = [one.model for one in learnt if isinstance(one.model, LinearModel)]
    for model in models:
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


def _main(learnt: Sequence[Learnt], answers: Sequence[str]) -> str:
    lines = ["def main(input):", '    """The answer to one input."""', "    fields = read(input)"]
    if learnt[0].target.key is None:
        return "\n".join([*lines, f"    return {answers[0]}"])
    entries = [f"        {literal(one.target.key)}: {answer}," for one, answer in zip(learnt, answers)]
    return "\n".join([*lines, "    return {", *entries, "    }"])
