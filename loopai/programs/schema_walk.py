"""Walk over a value and a schema: the verdict if `jsonschema-rs` cannot be used, and the texts of errors."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from .subschemas import Subschema

__all__ = ["MOST_ERRORS", "MOST_WORK", "OutOfBudget", "SchemaWalk", "size_of"]

MOST_ERRORS = 20
"""Most errors reported for one value; more would not help."""

LONGEST_MESSAGE = 300
"""Most characters of an error's text, which quotes the value."""

MOST_VERDICTS = 200_000
"""Most verdicts that a walk caches, about 150 bytes each."""

# Keywords that `jsonschema-rs` may check at once, without a way to interrupt it: microseconds at worst.
MOST_WORK = 1_000_000.0


class OutOfBudget(Exception):
    """The walk took too long or too much memory."""


class SchemaWalk:
    """A walk over a value and a schema. Verdicts are cached by subschema and value, which limits the work."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._give_up = time.monotonic() + seconds
        self._kept: dict[tuple[int, int], bool] = {}
        # Keeps temporary values alive: otherwise later values could get their identity.
        self._sizes: dict[int, float] = {}
        self._under_way: set[tuple[int, int]] = set()

    def fits(self, node: Subschema, value: Any) -> bool:
        """Return whether the value fits. Raises `OutOfBudget` and `RecursionError`."""
        key = (id(node), id(value))
        known = self._kept.get(key)
        if known is not None:
            return known
        if len(self._kept) >= MOST_VERDICTS or time.monotonic() > self._give_up:
            raise OutOfBudget
        # A schema that refers to itself for the same value adds no further condition.
        self._kept[key] = True
        verdict = self._fits(node, value)
        self._kept[key] = verdict
        return verdict

    def _fits(self, node: Subschema, value: Any) -> bool:
        if node.denies or (node.leaf and not self._leaf_fits(node, value)):
            return False
        if not all(self.fits(part, value) for part in node.all_of):
            return False
        if node.any_of is not None and not any(self.fits(part, value) for part in node.any_of):
            return False
        if node.one_of is not None and sum(islice((1 for part in node.one_of if self.fits(part, value)), 2)) != 1:
            return False
        if node.none_of is not None and self.fits(node.none_of, value):
            return False
        if node.if_then_else is not None and not all(self.fits(part, value) for part in self._branch(node, value)):
            return False
        return all(self.fits(below, item) for below, item, _ in self._below(node, value)) and self._contains(
            node, value
        )

    def _leaf_fits(self, node: Subschema, value: Any) -> bool:
        self._charge(node, value)
        return node.leaf_fits(value)

    def _charge(self, node: Subschema, value: Any) -> None:
        """Refuse work of `jsonschema-rs` that would exceed the remaining time."""
        work = 0.0
        if isinstance(value, str):
            work = len(value) * (node.pattern_costs + 0.01)
        elif node.whole and isinstance(value, (dict, list)):
            size = self._sizes.get(id(value))
            if size is None:
                size = self._sizes[id(value)] = float(sum(size_of(value, int(MOST_WORK))))
            work = size * 0.1 * max(1, len(node.leaf.get("enum", ())))
        if work > min(MOST_WORK, self._seconds * 1e6):
            raise OutOfBudget

    def _branch(self, node: Subschema, value: Any) -> Iterable[Subschema]:
        if node.if_then_else is None:
            return ()
        condition, then, otherwise = node.if_then_else
        chosen = then if self.fits(condition, value) else otherwise
        return () if chosen is None else (chosen,)

    def _below(self, node: Subschema, value: Any) -> Iterator[tuple[Subschema, Any, list[str | int]]]:
        """The conditions on the parts of the value and, through dependencies, on the value itself."""
        if isinstance(value, dict):
            for name, below in node.dependent.items():
                if name in value:
                    yield below, value, []
            if node.names is not None:
                for name in value:
                    yield node.names, name, []
            if not node.patterns and node.additional is None:
                for name, below in node.properties.items():
                    if name in value:
                        yield below, value[name], [name]
                return
            for name, item in value.items():
                yield from ((below, item, [name]) for below in self._of_property(node, name))
        elif isinstance(value, list):
            for at, item in enumerate(value):
                if at < len(node.prefix):
                    yield node.prefix[at], item, [at]
                elif node.rest is not None:
                    yield node.rest, item, [at]
                else:
                    return

    def _of_property(self, node: Subschema, name: str) -> Iterator[Subschema]:
        known = name in node.properties
        if known:
            yield node.properties[name]
        for _, pattern, below in node.patterns:
            if len(name) * pattern.cost > MOST_WORK / 10 or time.monotonic() > self._give_up:
                raise OutOfBudget
            if pattern.matches(name):
                known = True
                yield below
        if not known and node.additional is not None:
            yield node.additional

    def _contains(self, node: Subschema, value: Any) -> bool:
        contained = node.contains
        if contained is None or not isinstance(value, list):
            return True
        most = node.max_contains
        count = 0
        for item in value:
            count += self.fits(contained, item)
            if most is None and count >= node.min_contains:
                return True
        return count >= node.min_contains and (most is None or count <= most)

    # Texts

    def report(self, node: Subschema, value: Any) -> list[tuple[str, str]]:
        """Return the first errors; fewer if the time is up."""
        self._give_up = time.monotonic() + self._seconds
        found: list[tuple[str, str]] = []
        try:
            for path, text in self._errors(node, value, []):
                short = text if len(text) <= LONGEST_MESSAGE else text[:LONGEST_MESSAGE] + "…"
                found.append((_written(path), short))
                if len(found) == MOST_ERRORS:
                    break
        except (OutOfBudget, RecursionError):
            # The verdict is known: return the details found so far.
            return found
        return found

    def _errors(self, node: Subschema, value: Any, path: list[str | int]) -> Iterator[tuple[list[str | int], str]]:
        key = (id(node), id(value))
        if key in self._under_way or self.fits(node, value):
            return
        self._under_way.add(key)
        try:
            yield from self._own_errors(node, value, path)
            for below, item, step in self._below(node, value):
                if below is node.additional and below.denies:
                    yield path, f"Additional properties are not allowed ({step[0]!r} was unexpected)"
                else:
                    yield from self._errors(below, item, path + step)
        finally:
            self._under_way.discard(key)

    def _own_errors(self, node: Subschema, value: Any, path: list[str | int]) -> Iterator[tuple[list[str | int], str]]:
        if node.denies:
            yield path, "nothing is allowed here"
        if node.leaf and not self._leaf_fits(node, value):
            yield from ((path + step, text) for step, text in node.leaf_errors(value))
        for part in (*node.all_of, *self._branch(node, value)):
            yield from self._errors(part, value, path)
        shown = "value" if isinstance(value, (dict, list)) else json.dumps(value, ensure_ascii=False)
        if node.any_of is not None and not any(self.fits(part, value) for part in node.any_of):
            yield path, f"{shown} is not valid under any of the schemas listed in the 'anyOf' keyword"
        if node.one_of is not None:
            fitting = sum(islice((1 for part in node.one_of if self.fits(part, value)), 2))
            if fitting == 0:
                yield path, f"{shown} is not valid under any of the schemas listed in the 'oneOf' keyword"
            elif fitting == 2:
                yield path, f"{shown} is valid under more than one of the schemas listed in the 'oneOf' keyword"
        if node.none_of is not None and self.fits(node.none_of, value):
            yield path, f"{shown} is not allowed (the 'not' keyword)"
        if not self._contains(node, value):
            yield path, f"{shown} does not contain the right number of items matching the 'contains' keyword"


def size_of(value: Any, most: int) -> tuple[int, int]:
    """Values within a value and characters of its texts, counted until they are more than `most`."""
    nodes = characters = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        nodes += 1
        kind = type(item)
        if kind is str:
            characters += len(item)
        elif kind is dict:
            characters += sum(map(len, item))
            waiting += item.values()
        elif kind is list:
            waiting += item
        if nodes + len(waiting) > most:
            return most + 1, characters
    return nodes, characters


def _written(path: list[str | int]) -> str:
    return "input" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
