"""Which fields the inputs have and of which kind each is, from the schema and the examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from . import reading
from .errors import CannotLearn
from .schemas import stated

Path = tuple[str | int, ...]

_MAX_CHOICES = 50  # more values than this are no categories: one weight each would learn nothing
_MAX_WORDS_A_CHOICE = 1.5  # "yes", "New York": names; what has more words on average is text, whose words can be learnt
_MAX_CHOICE_LENGTH = 80

READERS: dict[str, Callable[[object], Any]] = {
    "text": reading.text,
    "number": reading.number,
    "choice": reading.choice,
    "code": reading.code,
    "flag": reading.flag,
}
CATEGORIES = ("choice", "code", "flag")


@dataclass(frozen=True)
class Field:
    """One place of the input that programs read. `kind` is a key of `READERS`, which names its reader."""

    name: str
    path: Path
    kind: str

    def read(self, value: Any) -> Any:
        """The field's value in one input: "" (text) or None where it is missing or of another type."""
        return READERS[self.kind](reading.at(value, self.path))


def find_fields(inputs: Sequence[Any], input_schema: Any) -> list[Field]:
    """The fields that differ between examples, in the order they are first seen; none where nothing can be used."""
    seen: dict[Path, list[Any]] = {}
    for value in inputs:
        for path, leaf in _leaves(value, ()):
            seen.setdefault(path, []).append(leaf)
    fields = []
    for path, values in seen.items():
        kind = _kind(path, values, input_schema)
        if kind is None:
            continue
        field = Field(_name(path), path, kind)
        if len({field.read(value) for value in inputs}) > 1:
            fields.append(field)
    names = [field.name for field in fields]
    return [
        field if names.count(field.name) == 1 else Field(repr(field.path), field.path, field.kind) for field in fields
    ]


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        if not all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in value):
            raise CannotLearn(
                f"The input field '{_name(path)}' is an array that holds other things than numbers: give texts, "
                "numbers, categories, booleans, arrays of numbers or objects of these."
            )
        for index, item in enumerate(value):
            yield (*path, index), item
    elif value is not None:
        yield path, value


def _kind(path: Path, values: list[Any], input_schema: Any) -> str | None:
    """The kind most of the values are of: the rest counts as missing."""
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
    return "choice" if _are_names(strings, distinct) else "text"


def _are_names(strings: list[str], distinct: set[str]) -> bool:
    return (
        len(distinct) <= min(_MAX_CHOICES, len(strings) / 2)
        and max(len(value) for value in distinct) <= _MAX_CHOICE_LENGTH
        and sum(len(value.split()) for value in distinct) / len(distinct) <= _MAX_WORDS_A_CHOICE
    )


def _name(path: Path) -> str:
    return ".".join(str(step) for step in path) or "input"
