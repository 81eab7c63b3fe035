"""A JSON schema compiled to a graph of `Subschema`s, made by `schema_reader` and traversed by `schema_walk`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import jsonschema_rs

__all__ = ["Pattern", "Patterns", "Subschema", "regex_options", "width_of"]

_MOST_WIDTH = 10_000

# Bytes a pattern's automaton needs at most, and the microseconds a character then costs at worst (measured).
_PATTERN_TIERS = ((1 << 13, 0.05), (1 << 16, 2.0), (1 << 20, 30.0), (1 << 22, 100.0))
_MOST_PATTERN_BYTES = 1 << 25
_PATTERN_SECONDS = 2.0


class Subschema:
    """A subschema. Keywords that hold schemas are in the members; `leaf` has the other keywords."""

    def __init__(self) -> None:
        self.dialect: str | None = None
        self.denies = False
        self.leaf: dict[str, Any] = {}
        self.whole = False
        self.pattern_costs = 0.0
        self.all_of: list[Subschema] = []
        self.any_of: list[Subschema] | None = None
        self.one_of: list[Subschema] | None = None
        self.none_of: Subschema | None = None
        self.if_then_else: tuple[Subschema, Subschema | None, Subschema | None] | None = None
        self.properties: dict[str, Subschema] = {}
        self.patterns: list[tuple[str, Pattern, Subschema]] = []
        self.additional: Subschema | None = None
        self.names: Subschema | None = None
        self.dependent: dict[str, Subschema] = {}
        self.prefix: list[Subschema] = []
        self.rest: Subschema | None = None
        self.contains: Subschema | None = None
        self.min_contains: float = 1
        self.max_contains: float | None = None
        self._validator: jsonschema_rs.Validator | None = None

    def leaf_fits(self, value: Any) -> bool:
        """Whether the value fits the keywords without schemas."""
        if self._validator is None:
            self._validator = self._made(self.leaf)
        return self._validator.is_valid(value)

    def leaf_errors(self, value: Any) -> Iterator[tuple[list[str | int], str]]:
        """The errors of those keywords, as path steps and texts."""
        leaf = self.leaf
        if "required" in leaf:
            if isinstance(value, dict):
                for name in leaf["required"]:
                    if name not in value:
                        yield [name], f"{json.dumps(name, ensure_ascii=False)} is a required property"
            leaf = {keyword: item for keyword, item in leaf.items() if keyword != "required"}
        # The text of a container may be as long as the input.
        validator = self._made(leaf, "value" if isinstance(value, (dict, list)) else None)
        for error in validator.iter_errors(value):
            yield [], error.message

    def _made(self, leaf: dict[str, Any], mask: str | None = None) -> jsonschema_rs.Validator:
        schema = dict(leaf)
        if self.dialect is not None:
            schema["$schema"] = self.dialect
        return jsonschema_rs.validator_for(schema, pattern_options=regex_options(), offline=True, mask=mask)

    def in_place(self) -> Iterator[Subschema]:
        """The subschemas that apply to the same value."""
        yield from self.all_of
        yield from self.any_of or ()
        yield from self.one_of or ()
        if self.none_of is not None:
            yield self.none_of
        for part in self.if_then_else or ():
            if part is not None:
                yield part
        yield from self.dependent.values()


class Pattern:
    """A regular expression on an engine whose time is linear in the text's length."""

    def __init__(self, source: str) -> None:
        for size, cost in _PATTERN_TIERS:
            try:
                self._validator = jsonschema_rs.validator_for({"pattern": source}, pattern_options=regex_options(size))
            except ValueError:
                continue
            self.bytes, self.cost = size, cost
            return
        raise ValueError(source)

    def matches(self, text: str) -> bool:
        """Whether the pattern is found in the text."""
        return self._validator.is_valid(text)


class Patterns:
    """The patterns of one schema, each compiled once, with a limit on their total size."""

    def __init__(self) -> None:
        self.bytes = 0
        self.cost = 0.0
        self._made: dict[str, Pattern | None] = {}
        self._give_up = time.monotonic() + _PATTERN_SECONDS

    def get(self, source: Any) -> Pattern | None:
        """Return the pattern; `None` for one that does not run in linear time, or is too large."""
        if not isinstance(source, str):
            return None
        if source not in self._made:
            made = None
            if self.bytes < _MOST_PATTERN_BYTES and time.monotonic() < self._give_up:
                try:
                    made = Pattern(source)
                except ValueError:
                    made = None
            if made is not None:
                self.bytes += made.bytes
                self.cost += made.cost
            self._made[source] = made
        return self._made[source]


def width_of(root: Subschema) -> float:
    """The most subschemas that apply to one value; 0 if the schema is recursive or too large to tell."""
    widest = 0.0
    left = _MOST_WIDTH
    waiting: list[tuple[tuple[Subschema, ...], int]] = [((root,), 0)]
    while waiting:
        seeds, depth = waiting.pop()
        seen: list[Subschema] = []
        below = list(seeds)
        while below:
            node = below.pop()
            seen.append(node)
            left -= 1 + len(node.leaf.get("enum", ())) // 10 + len(node.patterns)
            if left < 0 or depth > 64:
                return 0.0
            below.extend(node.in_place())
        widest = max(widest, float(len(seen) + sum(map(_weight, seen))))
        names = {name for node in seen for name in node.properties}
        others = tuple(
            part
            for node in seen
            for part in (
                *(item for _, _, item in node.patterns), node.additional, node.names, *node.prefix, node.rest,
                node.contains,
            )
            if part is not None
        )  # fmt: skip
        groups = [others] if others else []
        groups += [(*(node.properties[name] for node in seen if name in node.properties), *others) for name in names]
        waiting += [(group, depth + 1) for group in groups]
    return widest


def _weight(node: Subschema) -> int:
    # The check for unique items hashes their entire content.
    return len(node.leaf.get("enum", ())) + len(node.patterns) + (20 if "uniqueItems" in node.leaf else 0)


def regex_options(size: int = _PATTERN_TIERS[-1][0]) -> jsonschema_rs.RegexOptions:
    """Make patterns run in linear time, with automata of at most this many bytes."""
    return jsonschema_rs.RegexOptions(size_limit=size, dfa_size_limit=1 << 20)
