"""Lists of texts and numbers out of a text: split at a mark, or all matches of a pattern."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .by_example import runtime as run
from .by_example.texts import LETTERS, TOKENS
from .literals import literal
from .parts import Part, carried
from .values import same

Split = Callable[[str], list[str]]
_CHANGES: tuple[tuple[str, Callable[[str], Any]], ...] = (
    ("{0}", lambda text: text),
    ("{0}.lower()", str.lower),
    ("{0}.upper()", str.upper),
    ("{0}.title()", str.title),
    ("int({0})", int),
    ("float({0})", float),
    ('int({0}.replace(",", ""))', lambda text: int(text.replace(",", ""))),
    ('float({0}.replace(",", ""))', lambda text: float(text.replace(",", ""))),
)
_PATTERNS = (
    *(pattern for pattern, _ in TOKENS),
    f"[#@][{LETTERS}0-9_]+",
    f"(?<=[#])[{LETTERS}0-9_]+",
    f"(?<=[@])[{LETTERS}0-9_]+",
    "-?[0-9]+(?:[.][0-9]+)?",
    "[A-Z]+-?[0-9]+",
)


def make_list(inputs: Sequence[Any], outputs: Sequence[Sequence[Any]], function: str) -> Part | None:
    """Return the part that splits or searches a text to give exactly these lists; None if no part does."""
    if not inputs:
        return None
    for path in _paths(inputs):
        texts = [run.text_at(value, path) for value in inputs]
        for split, split_source in _splits(texts, outputs):
            for change_source, change in _CHANGES:
                for unique in (False, True):
                    if all(_gives(split, change, text, output, unique=unique) for text, output in zip(texts, outputs)):
                        return _part(path, split_source, change_source, function, unique=unique)
    return None


def _gives(split: Split, change: Callable[[str], Any], text: str, output: Sequence[Any], *, unique: bool) -> bool:
    try:
        made = [change(one) for one in split(text)]
    except ValueError:
        return False
    return same(list(dict.fromkeys(made)) if unique else made, list(output))


def _splits(texts: Sequence[str], outputs: Sequence[Sequence[Any]]) -> Iterator[tuple[Split, str]]:
    marks = sorted(set(re.findall("[^A-Za-z0-9 ]", " ".join(texts[:20]))))[:12]
    for mark in [*marks, " "]:
        yield _split_at(mark), f"[one.strip() for one in text.split({literal(mark)}) if one.strip()]"
    if len(marks) > 1:
        both = "[" + "".join(re.escape(mark) for mark in marks) + "]"
        yield _split_by(both), f"[one.strip() for one in re.split({literal(both)}, text) if one.strip()]"
    for pattern in _PATTERNS:
        yield _all_of(pattern), f"[one.group() for one in re.finditer({literal(pattern)}, text)]"
    for mark in marks:
        source = f'[one.strip() for one in text.partition({literal(mark)})[2].split(",") if one.strip()]'
        yield _split_after(mark), source


def _split_at(mark: str) -> Split:
    return lambda text: [one.strip() for one in text.split(mark) if one.strip()]


def _split_by(pattern: str) -> Split:
    return lambda text: [one.strip() for one in re.split(pattern, text) if one.strip()]


def _all_of(pattern: str) -> Split:
    return lambda text: [one.group() for one in re.finditer(pattern, text)]


def _split_after(mark: str) -> Split:
    return lambda text: [one.strip() for one in text.partition(mark)[2].split(",") if one.strip()]


def _part(path: tuple[Any, ...], split: str, change: str, function: str, *, unique: bool) -> Part:
    made = f"[{change.format('one')} for one in {split}]"
    lines = [
        f"def {function}(input):",
        '    """Return the list, split out of the text."""',
        f"    text = text_at(input, {literal(path)})",
        f"    return {f'list(dict.fromkeys({made}))' if unique else made}",
    ]
    text = "\n".join(lines)
    told = "a text split into a list"
    return Part((*carried(run, [text]), text), f"{function}(input)", "dsl", told, told, float(len(text)))


def _paths(inputs: Sequence[Any]) -> list[tuple[Any, ...]]:
    candidates: list[tuple[Any, ...]] = [()] if isinstance(inputs[0], str) else []
    if isinstance(inputs[0], dict):
        candidates = [(key,) for key, value in inputs[0].items() if isinstance(value, str)]
    found = []
    for path in candidates:
        try:
            if all(isinstance(run.text_at(value, path), str) for value in inputs):
                found.append(path)
        except ValueError:
            continue
    return found
