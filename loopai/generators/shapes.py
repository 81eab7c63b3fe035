"""The shape of the outputs: objects, optional keys and lists as a tree whose leaves are single values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import CannotLearn

Path = tuple[Any, ...]
_DEEPEST = 20


@dataclass
class Leaf:
    """A single value: `values` by row, for the rows that have one. `plan` is filled once it has been made."""

    path: Path
    values: dict[int, Any]
    function: str = ""

    @property
    def name(self) -> str:
        """The leaf's name in messages."""
        return ".".join(map(str, self.path)) if self.path else "the output"


@dataclass
class Choice:
    """A value that only some rows have: the others have null, or lack the key."""

    present: Leaf
    inner: Node


@dataclass
class Record:
    """An object: a node for each key, and the keys that may be missing."""

    path: Path
    keys: dict[str, Node] = field(default_factory=dict)
    optional: dict[str, Leaf] = field(default_factory=dict)


@dataclass
class RowNode:
    """A list that always has the same length."""

    items: list[Node]


@dataclass
class Labels:
    """A list of labels from a closed set: for each label, whether it is in the list."""

    labels: list[tuple[Any, Leaf]]


Node = Leaf | Choice | Record | RowNode | Labels


def shape_of(values: dict[int, Any], path: Path = ()) -> Node:
    """Return the tree for these values (by row). Raises `CannotLearn` for outputs without a common shape."""
    if len(path) > _DEEPEST:
        raise CannotLearn(f"The outputs are nested more than {_DEEPEST} levels deep: flatten them.")
    kinds = {_kind(value) for value in values.values()}
    present = {row: value for row, value in values.items() if value is not None}
    if "null" in kinds and len(kinds) > 1 and (kinds & {"object", "array"} or _is_free(list(present.values()))):
        flags = Leaf((*path, "?"), {row: value is not None for row, value in values.items()})
        return Choice(flags, shape_of(present, path))
    if kinds == {"object"}:
        return _record(values, path)
    if kinds == {"array"}:
        return _list(values, path)
    if kinds & {"object", "array"}:
        named = ".".join(map(str, path)) or "the output"
        raise CannotLearn(
            f"The examples give {named} as {' and as '.join(sorted(kinds))}: give outputs of one shape, or push a "
            "program of your own."
        )
    return Leaf(path, values)


def leaves(node: Node) -> Iterator[Leaf]:
    """Yield the leaves in the order of the output."""
    if isinstance(node, Leaf):
        yield node
    elif isinstance(node, Choice):
        yield node.present
        yield from leaves(node.inner)
    elif isinstance(node, Record):
        for key, inner in node.keys.items():
            if key in node.optional:
                yield node.optional[key]
            yield from leaves(inner)
    elif isinstance(node, RowNode):
        for inner in node.items:
            yield from leaves(inner)
    else:
        for _, leaf in node.labels:
            yield leaf


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "object"
    return "array" if isinstance(value, list) else "value"


def _is_free(values: Sequence[Any]) -> bool:
    """Whether values repeat too seldom to be labels (null counts as a label)."""
    distinct = {repr(value) for value in values}
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    return len(distinct) > max(2, len(values) / 3) or (numbers and len(distinct) > 2)


def _record(values: dict[int, Any], path: Path) -> Record:
    record = Record(path)
    keys = list(dict.fromkeys(key for value in values.values() for key in value))
    if not keys:
        raise CannotLearn("The outputs are empty objects: give at least one field to learn.")
    for key in keys:
        own = {row: value[key] for row, value in values.items() if key in value}
        if len(own) < len(values):
            record.optional[key] = Leaf((*path, key, "?"), {row: row in own for row in values})
        record.keys[key] = shape_of(own, (*path, key))
    return record


def _list(values: dict[int, Any], path: Path) -> Node:
    items = [item for value in values.values() for item in value]
    scalars = all(isinstance(item, (str, int, float, bool)) for item in items)
    distinct = {(type(item).__name__, str(item)): item for item in items}
    sizes = {len(value) for value in values.values()}
    if (
        scalars
        and items
        and len(distinct) <= min(40, len(items) / 2)
        and all(len(set(map(repr, v))) == len(v) for v in values.values())
    ):
        ordered = _order(list(values.values()))
        if ordered is not None:
            return Labels(
                [(item, Leaf((*path, item), {row: item in value for row, value in values.items()})) for item in ordered]
            )
    if scalars and not (len(sizes) == 1 and len(values) > 1 and next(iter(sizes)) <= 6 and not _is_texts(items)):
        return Leaf(path, values)
    if len(sizes) == 1 and 0 < next(iter(sizes)) <= 12:
        return RowNode(
            [shape_of({row: value[at] for row, value in values.items()}, (*path, at)) for at in range(sizes.pop())]
        )
    return Leaf(path, values)


def _is_texts(items: Sequence[Any]) -> bool:
    return all(isinstance(item, str) for item in items)


def _order(lists: Sequence[list[Any]]) -> list[Any] | None:
    """Return the labels in an order that all lists keep, None if they contradict each other."""
    after: dict[Any, set[Any]] = {}
    for value in lists:
        for place, item in enumerate(value):
            after.setdefault(item, set()).update(value[place + 1 :])
    ordered: list[Any] = []
    pending = dict(after)
    while pending:
        free = [item for item in pending if not any(item in later for other, later in pending.items() if other != item)]
        if not free:
            return None
        first = min(free, key=str)
        ordered.append(first)
        del pending[first]
    return ordered
