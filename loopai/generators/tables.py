"""Exact tables: the output for each key in the examples, and an error for any other key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .literals import identifier, literal, table
from .parts import Part, source_of

TABLE = "a lookup table"
_LONGEST_KEY = 40
_LONGEST_CODE = 16
_MOST_KEYS = 5000
_MOST_WORDS = 3
_FEWEST_KEYS = 5  # fewer are categories, which a model learns as well


def key_at(value: object, paths: tuple) -> object:  # type: ignore[type-arg]  # programs carry it: kept plain
    """Return the values at these places of the input: one alone, or several as a tuple."""
    found = []
    for path in paths:
        inner = value
        for step in path:
            if not isinstance(inner, dict) or step not in inner:
                raise ValueError(f"the input has no value at {path!r}")
            inner = inner[step]
        if not isinstance(inner, (str, int, float)):
            raise ValueError(f"the input at {path!r} is not a text or a number")
        found.append(inner)
    return found[0] if len(found) == 1 else tuple(found)


def looked_up(entries: dict, key: object) -> object:  # type: ignore[type-arg]  # programs carry it: kept plain
    """Return a table's entry for a key that the examples named."""
    if key not in entries:
        raise ValueError(f"no example has {str(key)[:80]!r}; add one with its output")
    return entries[key]


def make_table(
    inputs: Sequence[Any], values: dict[int, Any], rows: Sequence[int], function: str, *, codes: bool
) -> Part | None:
    """Return a table from the input's short fields to the values; None if the inputs cannot serve as keys.

    With `codes` the keys must be single words or numbers: texts of several words are left to models.
    """
    paths = _paths([inputs[row] for row in rows], codes=codes)
    for group in [(path,) for path in paths] + ([tuple(paths)] if len(paths) > 1 and not codes else []):
        entries: dict[Any, Any] = {}
        for row in rows:
            key = key_at(inputs[row], group)
            if entries.setdefault(key, values[row]) != values[row]:
                break
        else:
            if _FEWEST_KEYS <= len(entries) <= _MOST_KEYS and len({repr(value) for value in entries.values()}) > 1:
                return _part(entries, group, function)
    return None


def repeats(inputs: Sequence[Any], rows: Sequence[int]) -> bool:
    """Return whether most rows have a key that another row has as well."""
    keys = [repr(inputs[row]) for row in rows]
    counts: dict[str, int] = {}
    for key in keys:
        counts[key] = counts.get(key, 0) + 1
    return sum(count for count in counts.values() if count > 1) > len(keys) / 2


def _part(entries: dict[Any, Any], group: tuple[Any, ...], function: str) -> Part:
    name = f"{identifier(function).upper()}_TABLE"
    lines = table(f"{literal(key)}: {literal(value)}" for key, value in entries.items())
    body = (
        f"def {function}(input):\n"
        f'    """Return the value that the examples give for this key."""\n'
        f"    return looked_up({name}, key_at(input, {literal(group)}))"
    )
    told = f"a table of the {len(entries):,} keys in the examples; any other key is an error"
    return Part(
        (source_of(key_at), source_of(looked_up), f"{name} = {lines}", body),
        f"{function}(input)",
        "rule",
        TABLE,
        told,
        float(len(body) + len(lines)),
    )


def _paths(inputs: Sequence[Any], *, codes: bool) -> list[tuple[Any, ...]]:
    """Return the places of the fields that could be keys: short texts and whole numbers that every input has."""
    if not all(isinstance(value, dict) for value in inputs):
        return [()] if all(_is_key(value, codes=codes) for value in inputs) else []
    names = [name for name in inputs[0] if all(name in value for value in inputs)]
    return [(name,) for name in names if all(_is_key(value[name], codes=codes) for value in inputs)]


def _is_key(value: Any, *, codes: bool) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool)
    if not isinstance(value, str):
        return False
    return len(value.split()) <= (1 if codes else _MOST_WORDS) and len(value) <= (
        _LONGEST_CODE if codes else _LONGEST_KEY
    )
