"""Which fields the inputs have, and the kind of each, from the schema and the examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..schemas import stated
from . import reading

Path = tuple[str | int | None, ...]

_FEWEST_DATES = 3
_MAX_CHOICES = 50  # a field with more values is no category: one weight for each would teach nothing
_MAX_WORDS_A_CHOICE = 1.5  # "yes", "New York" are names; with more words on average it is text, learnt word by word
_MAX_CHOICE_LENGTH = 80
_MOST_ITEMS = 1000  # of a list
_REPEATED = 10  # texts that repeat this often on average are names, however many words they have

READERS: dict[str, Callable[[object], Any]] = {
    "text": reading.text,
    "number": reading.number,
    "date": reading.years,
    "choice": reading.choice,
    "code": reading.code,
    "flag": reading.flag,
    "texts": reading.texts,
    "total": reading.total,
    "size": reading.size,
}
# Fields of these kinds become columns in the same way as fields of the kind on the right.
_ALIKE = {"texts": "text", "total": "number", "size": "number", "date": "number"}
CATEGORIES = ("choice", "code", "flag")


@dataclass(frozen=True)
class Field:
    """One place in the input that programs read. `kind` is a key of `READERS`, which holds its reader."""

    name: str
    path: Path
    kind: str

    @property
    def column(self) -> str:
        """The kind of columns it becomes: text, number, choice, code or flag."""
        return _ALIKE.get(self.kind, self.kind)

    def read(self, value: Any) -> Any:
        """The field's value in one input: "" (text) or None if it is missing or of another type."""
        return READERS[self.kind](reading.at(value, self.path))


def find_fields(inputs: Sequence[Any], input_schema: Any) -> list[Field]:
    """The fields that differ between examples, in the order they are first seen; empty if none can be used."""
    seen: dict[Path, list[Any]] = {}
    for value in inputs:
        for path, leaf in _leaves(value, ()):
            seen.setdefault(path, []).append(leaf)
    found = list(_of_lists(inputs))
    for path, values in seen.items():
        kind = _kind(path, values, input_schema)
        if kind is None:
            continue
        field = Field(_name(path), path, kind)
        if len({field.read(value) for value in inputs}) > 1:
            found.append(field)
    names = [field.name for field in found]
    return [
        field if names.count(field.name) == 1 else Field(repr(field.path), field.path, field.kind) for field in found
    ]


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        if all(_is_number(item) for item in value):
            for index, item in enumerate(value[:_MOST_ITEMS]):
                yield (*path, index), item
    elif value is not None:
        yield path, value


def _of_lists(inputs: Sequence[Any]) -> Iterator[Field]:
    """Fields made from lists of texts or objects: the number of items, their texts, the sums of their numbers."""
    found: dict[tuple[Path, str], None] = {}
    for value in inputs:
        for path, items in _lists(value, ()):
            found[(path, "size")] = None
            for item in items[:_MOST_ITEMS]:
                for inner, leaf in _leaves(item, ()):
                    kind = "texts" if isinstance(leaf, str) else "total" if _is_number(leaf) else None
                    if kind is not None:
                        found[((*path, None, *inner), kind)] = None
    for path, kind in found:
        field = Field(f"{kind} of {_name(path)}", path, kind)
        if len({field.read(value) for value in inputs}) > 1:
            yield field


def _lists(value: Any, path: Path) -> Iterator[tuple[Path, list[Any]]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _lists(inner, (*path, key))
    elif isinstance(value, list) and not all(_is_number(item) for item in value):
        yield path, value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kind(path: Path, values: list[Any], input_schema: Any) -> str | None:
    """The kind of most of the values; the others count as missing."""
    strings = [value for value in values if isinstance(value, str)]
    flags = [value for value in values if isinstance(value, bool)]
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    closed = stated(input_schema, path).values is not None
    if len(flags) >= max(len(strings), len(numbers)):
        return "flag"
    if len(numbers) >= len(strings):
        whole = all(isinstance(value, int) for value in numbers)
        return "code" if closed and whole and len(set(numbers)) <= _MAX_CHOICES else "number"
    distinct = set(strings)
    if closed and len(distinct) <= _MAX_CHOICES:
        return "choice"
    if all(reading.number(value) is not None for value in strings):
        return "number"
    if len(distinct) >= _FEWEST_DATES and all(reading.years(value) is not None for value in strings):
        return "date"
    return "choice" if _are_names(strings, distinct) else "text"


def _are_names(strings: list[str], distinct: set[str]) -> bool:
    longest = max(len(value) for value in distinct)
    if len(distinct) <= min(_MAX_CHOICES, len(strings) / _REPEATED) and longest <= _MAX_CHOICE_LENGTH:
        return True
    return (
        len(distinct) <= min(_MAX_CHOICES, len(strings) / 2)
        and max(len(value) for value in distinct) <= _MAX_CHOICE_LENGTH
        and sum(len(value.split()) for value in distinct) / len(distinct) <= _MAX_WORDS_A_CHOICE
    )


def _name(path: Path) -> str:
    return ".".join("each" if step is None else str(step) for step in path) or "input"
