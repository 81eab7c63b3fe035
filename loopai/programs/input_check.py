"""`InputCheck`: whether a value fits a JSON schema, decided in bounded time and memory whatever schema and value are.

Two ways lead to a verdict. `jsonschema-rs` decides where a bound on its work is known beforehand: the schema refers to
itself nowhere and the value is not too large for it. Everything else, and the text of every error, is left to a walk
over schema and value that keeps each verdict it made, and stops when its time is up. The walk asks `jsonschema-rs` for
the keywords that hold no schemas. Nothing is ever fetched.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

import jsonschema_rs

__all__ = ["CHECK_SECONDS", "LARGEST_SCHEMA", "MOST_ERRORS", "InputCheck", "SchemaTooLarge"]

MOST_ERRORS = 20
"""Errors reported for one value; more help nobody."""

LONGEST_MESSAGE = 300
"""Characters of one error's text, which quotes the value."""

LARGEST_SCHEMA = 1_000_000
"""Bytes of a schema's JSON text."""

MOST_SUBSCHEMAS = 20_000
_NODE_BYTES = 2000
CHECK_SECONDS = 0.5
"""Seconds that the walk may take for one value."""

MOST_VERDICTS = 200_000
"""Verdicts that a walk keeps, about 150 bytes each."""

# Of what `jsonschema-rs` may be asked at once, without a way to interrupt it: microseconds at worst.
_MOST_WORK = 1_000_000.0
# One subschema on one value takes some 10 ns; the rest is reserve.
_VISIT = 0.02
_MOST_WIDTH = 10_000

# Bytes a pattern's automaton needs at most, and the microseconds a character then costs at worst (measured).
_PATTERN_TIERS = ((1 << 13, 0.05), (1 << 16, 2.0), (1 << 20, 30.0), (1 << 22, 100.0))
_MOST_PATTERN_BYTES = 1 << 25
_PATTERN_SECONDS = 2.0

_DIALECTS = re.compile(r"https?://json-schema\.org/(draft-0[467]|draft/2019-09|draft/2020-12)/schema#?")
_TYPES = {"array", "boolean", "integer", "null", "number", "object", "string"}
# Keywords that say the same whatever else stands beside them, and hold no schemas.
_NUMBERS = ("multipleOf", "maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum")
_COUNTS = ("maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties")
_WHOLE = ("enum", "const", "uniqueItems")
_ONE = ("additionalProperties", "propertyNames", "contains", "not", "if", "then", "else", "additionalItems")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAPS = ("properties", "patternProperties", "dependentSchemas")
_UNEVALUATED = ("unevaluatedProperties", "unevaluatedItems")


class SchemaTooLarge(ValueError):
    """The schema is too large to be checked against; the message says by which measure."""


class InputCheck:
    """A task's schema, made ready.

    `warnings` names the keywords that are left out because they cannot be checked: the rest of the schema is. `weight`
    is about how many bytes it takes at most. A schema that is not an object or a boolean checks nothing. Raises
    `SchemaTooLarge`.
    """

    def __init__(self, schema: Any) -> None:
        self.warnings: list[str] = []
        self.weight = 0
        self._root: _Node | None = None
        self._whole: jsonschema_rs.Validator | None = None
        self._width = 0.0
        self._pattern_cost = 0.0
        if isinstance(schema, (dict, bool)):
            self._compile(schema)
        else:
            self.warnings.append("the schema is not an object or a boolean: inputs are not checked")

    def errors(self, value: Any, seconds: float = CHECK_SECONDS) -> list[tuple[str, str]]:
        """Return what is wrong with `value`: paths such as `input.items[0].text`, and texts; empty where it fits.

        A value that cannot be checked within `seconds` is reported as one error that says so.
        """
        if self._root is None:
            return []
        walk = _Walk(seconds)
        try:
            if self._whole is not None and self._work(value) <= _MOST_WORK:
                if self._whole.is_valid(value):
                    return []
            elif walk.fits(self._root, value):
                return []
        except (_OutOfBudget, RecursionError):
            text = "cannot be checked against the task's schema within its limits: make the input or the schema smaller"
            return [("input", text)]
        return walk.report(self._root, value) or [("input", "does not fit the task's schema")]

    def work(self, value: Any) -> float:
        """Microseconds that a verdict takes at most; infinite where that is not known beforehand."""
        return self._work(value) if self._whole is not None or self._root is None else math.inf

    def _work(self, value: Any) -> float:
        nodes, characters = _size(value, int(_MOST_WORK / (_VISIT * max(self._width, 1.0))) + 1)
        return nodes * self._width * _VISIT + characters * self._pattern_cost

    def _compile(self, schema: dict[str, Any] | bool) -> None:
        text = json.dumps(schema)
        if len(text) > LARGEST_SCHEMA:
            raise SchemaTooLarge(f"the schema has {len(text):,} bytes, and {LARGEST_SCHEMA:,} are the most")
        try:
            # A copy of its own: keywords are removed from it, and no two places share an object.
            builder = _Builder(json.loads(text), self.warnings)
            self._root = builder.build()
        except RecursionError:
            self.warnings.append("the schema is nested too deeply: inputs are not checked")
            return
        self.weight = len(text) + builder.patterns.bytes + builder.size * _NODE_BYTES
        self._pattern_cost = builder.patterns.cost
        self._width = _width(self._root)
        if self._width:
            try:
                self._whole = jsonschema_rs.validator_for(builder.schema, pattern_options=_regex(), offline=True)
            except (ValueError, RecursionError):
                self._whole = None
        if self._whole is None and builder.has_unevaluated:
            self.warnings.append("unevaluatedProperties and unevaluatedItems are not checked in this schema")


class _OutOfBudget(Exception):
    """The walk took too long or too much memory."""


class _Node:
    """A subschema. What holds schemas is in the members; `leaf` are the keywords that hold none."""

    def __init__(self) -> None:
        self.dialect: str | None = None
        self.denies = False
        self.leaf: dict[str, Any] = {}
        self.whole = False
        self.pattern_costs = 0.0
        self.all_of: list[_Node] = []
        self.any_of: list[_Node] | None = None
        self.one_of: list[_Node] | None = None
        self.none_of: _Node | None = None
        self.if_then_else: tuple[_Node, _Node | None, _Node | None] | None = None
        self.properties: dict[str, _Node] = {}
        self.patterns: list[tuple[str, _Pattern, _Node]] = []
        self.additional: _Node | None = None
        self.names: _Node | None = None
        self.dependent: dict[str, _Node] = {}
        self.prefix: list[_Node] = []
        self.rest: _Node | None = None
        self.contains: _Node | None = None
        self.min_contains: float = 1
        self.max_contains: float | None = None
        self._validator: jsonschema_rs.Validator | None = None

    def leaf_fits(self, value: Any) -> bool:
        if self._validator is None:
            self._validator = self._made(self.leaf)
        return self._validator.is_valid(value)

    def leaf_errors(self, value: Any) -> Iterator[tuple[list[str | int], str]]:
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
        return jsonschema_rs.validator_for(schema, pattern_options=_regex(), offline=True, mask=mask)

    def in_place(self) -> Iterator[_Node]:
        """The subschemas that see the same value."""
        yield from self.all_of
        yield from self.any_of or ()
        yield from self.one_of or ()
        if self.none_of is not None:
            yield self.none_of
        for part in self.if_then_else or ():
            if part is not None:
                yield part
        yield from self.dependent.values()


class _Pattern:
    """A regular expression on an engine whose time is linear in the text's length."""

    def __init__(self, source: str) -> None:
        for size, cost in _PATTERN_TIERS:
            try:
                self._validator = jsonschema_rs.validator_for({"pattern": source}, pattern_options=_regex(size))
            except ValueError:
                continue
            self.bytes, self.cost = size, cost
            return
        raise ValueError(source)

    def matches(self, text: str) -> bool:
        return self._validator.is_valid(text)


class _Patterns:
    """The patterns of one schema, each compiled once, bounded by sum."""

    def __init__(self) -> None:
        self.bytes = 0
        self.cost = 0.0
        self._made: dict[str, _Pattern | None] = {}
        self._give_up = time.monotonic() + _PATTERN_SECONDS

    def get(self, source: Any) -> _Pattern | None:
        if not isinstance(source, str):
            return None
        if source not in self._made:
            made = None
            if self.bytes < _MOST_PATTERN_BYTES and time.monotonic() < self._give_up:
                try:
                    made = _Pattern(source)
                except ValueError:
                    made = None
            if made is not None:
                self.bytes += made.bytes
                self.cost += made.cost
            self._made[source] = made
        return self._made[source]


class _Builder:
    """Makes nodes of a schema, and removes from it what cannot be checked."""

    def __init__(self, schema: Any, warnings: list[str]) -> None:
        self.schema = schema
        self.patterns = _Patterns()
        self.has_unevaluated = False
        self._warnings = warnings
        self._nodes: dict[int, _Node] = {}
        self._waiting: list[tuple[_Node, Any, str, str]] = []
        self._resources: dict[str, Any] = {}
        self._anchors: dict[tuple[str, str], tuple[Any, str]] = {}
        self._dialect: str | None = None
        self._legacy = False

    def build(self) -> _Node:
        if isinstance(self.schema, dict) and "$schema" in self.schema:
            dialect = self.schema["$schema"]
            if isinstance(dialect, str) and _DIALECTS.fullmatch(dialect):
                self._dialect = dialect
                self._legacy = "draft-0" in dialect
            else:
                self._leave_out(self.schema, "$schema", "#", "is not a dialect known here")
        self._find_resources(self.schema, "")
        root = self._node(self.schema, "", "#")
        while self._waiting:
            self._fill(*self._waiting.pop())
        return root

    @property
    def size(self) -> int:
        """How many subschemas there are."""
        return len(self._nodes)

    def _node(self, schema: Any, base: str, place: str) -> _Node:
        known = self._nodes.get(id(schema)) if isinstance(schema, dict) else None
        if known is not None:
            return known
        node = _Node()
        node.dialect = self._dialect
        if isinstance(schema, dict):
            if len(self._nodes) >= MOST_SUBSCHEMAS:
                raise SchemaTooLarge(f"the schema has more than {MOST_SUBSCHEMAS:,} subschemas")
            self._nodes[id(schema)] = node
            self._waiting.append((node, schema, base, place))
        else:
            node.denies = schema is False
        return node

    def _leave_out(self, schema: dict[str, Any], keyword: str, place: str, reason: str) -> None:
        shown = json.dumps(schema.pop(keyword))
        if len(shown) > 80:
            shown = shown[:80] + "…"
        if len(self._warnings) < MOST_ERRORS:
            self._warnings.append(f"{keyword} at {place} is not checked: {shown} {reason}")

    def _fill(self, node: _Node, schema: dict[str, Any], base: str, place: str) -> None:
        base = _base(schema, base)
        for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
            if keyword in schema:
                found = self._resolved(schema[keyword], base)
                if found is None:
                    self._leave_out(schema, keyword, place, "refers to nothing in this schema")
                    continue
                node.all_of.append(self._node(found[0], found[1], str(schema[keyword])))
                if keyword == "$ref" and self._legacy:
                    return
        self._fill_leaf(node, schema, place)
        self._drop_misshapen(schema, place)
        self._fill_patterns(node, schema, base, place)
        part = {
            keyword: self._node(schema[keyword], base, f"{place}/{keyword}") for keyword in _ONE if keyword in schema
        }
        lists = {
            keyword: [self._node(item, base, f"{place}/{keyword}/{at}") for at, item in enumerate(schema[keyword])]
            for keyword in _LISTS
            if keyword in schema
        }
        node.all_of += lists.get("allOf", [])
        node.any_of = lists.get("anyOf")
        node.one_of = lists.get("oneOf")
        node.none_of = part.get("not")
        if "if" in part:
            node.if_then_else = (part["if"], part.get("then"), part.get("else"))
        maps = {keyword: schema[keyword] for keyword in _MAPS if keyword in schema}
        node.properties = self._map(maps.get("properties", {}), base, f"{place}/properties")
        node.dependent = self._map(maps.get("dependentSchemas", {}), base, f"{place}/dependentSchemas")
        node.additional = part.get("additionalProperties")
        node.names = part.get("propertyNames")
        self._fill_arrays(node, schema, base, place, lists.get("prefixItems", []), part)
        self._fill_dependencies(node, schema, base, place)
        if any(keyword in schema for keyword in _UNEVALUATED):
            self.has_unevaluated = True

    def _map(self, schemas: dict[str, Any], base: str, place: str) -> dict[str, _Node]:
        return {name: self._node(item, base, f"{place}/{name}") for name, item in schemas.items()}

    def _fill_leaf(self, node: _Node, schema: dict[str, Any], place: str) -> None:
        draft_4 = self._dialect is not None and "draft-04" in self._dialect
        for keyword in [name for name in schema if name in _LEAF]:
            value = schema[keyword]
            if keyword == "pattern":
                pattern = self.patterns.get(value)
                if pattern is None:
                    self._leave_out(
                        schema, keyword, place, "is not a pattern that runs in linear time, or is too large"
                    )
                    continue
                node.pattern_costs += pattern.cost
            elif not (
                _LEAF[keyword](value) or (draft_4 and keyword.startswith("exclusive") and isinstance(value, bool))
            ):
                self._leave_out(schema, keyword, place, "is not a value of this keyword")
                continue
            node.leaf[keyword] = value
        node.whole = any(keyword in node.leaf for keyword in _WHOLE)

    def _drop_misshapen(self, schema: dict[str, Any], place: str) -> None:
        for keyword in [name for name in schema if name in _SHAPES]:
            if not _SHAPES[keyword](schema[keyword]):
                self._leave_out(schema, keyword, place, "is not a value of this keyword")

    def _fill_patterns(self, node: _Node, schema: dict[str, Any], base: str, place: str) -> None:
        schemas: dict[str, Any] = schema.get("patternProperties", {})
        for source in list(schemas):
            pattern = self.patterns.get(source)
            if pattern is None:
                self._leave_out(schemas, source, f"{place}/patternProperties", "is under a pattern that cannot be run")
                # Otherwise what the pattern would have matched were refused as additional.
                for keyword in ("additionalProperties", "unevaluatedProperties"):
                    if keyword in schema:
                        self._leave_out(schema, keyword, place, "needs that pattern")
                continue
            below = self._node(schemas[source], base, f"{place}/patternProperties/{source}")
            node.patterns.append((source, pattern, below))

    def _fill_arrays(
        self, node: _Node, schema: dict[str, Any], base: str, place: str, prefix: list[_Node], part: dict[str, _Node]
    ) -> None:
        items = schema.get("items")
        if isinstance(items, list):
            node.prefix = [self._node(item, base, f"{place}/items/{at}") for at, item in enumerate(items)]
            node.rest = part.get("additionalItems")
        else:
            node.prefix = prefix
            if "items" in schema:
                node.rest = self._node(items, base, f"{place}/items")
        node.contains = part.get("contains")
        if "minContains" in schema:
            node.min_contains = schema["minContains"]
        node.max_contains = schema.get("maxContains")

    def _fill_dependencies(self, node: _Node, schema: dict[str, Any], base: str, place: str) -> None:
        for name, needed in schema.get("dependencies", {}).items():
            below = {"required": needed} if isinstance(needed, list) else needed
            if isinstance(below, (dict, bool)):
                # Kept alive by the schema itself: nodes are known by the identity of what they are made of.
                self._resources[f"{place}/dependencies/{name}"] = below
                node.dependent[name] = self._node(below, base, f"{place}/dependencies/{name}")

    def _find_resources(self, schema: Any, base: str) -> None:
        waiting = [(schema, base)]
        self._resources[""] = schema
        while waiting:
            found, base = waiting.pop()
            if isinstance(found, list):
                waiting += [(item, base) for item in found]
            elif isinstance(found, dict):
                inner = _base(found, base)
                if inner != base:
                    self._resources.setdefault(inner, found)
                for keyword in ("$anchor", "$dynamicAnchor"):
                    if isinstance(found.get(keyword), str):
                        self._anchors.setdefault((inner, found[keyword]), (found, inner))
                name = found.get("$id", found.get("id"))
                if isinstance(name, str) and name.startswith("#"):
                    self._anchors.setdefault((base, name[1:]), (found, base))
                waiting += [
                    (item, inner) for key, item in found.items() if key not in {"enum", "const", "default", "examples"}
                ]

    def _resolved(self, reference: Any, base: str) -> tuple[Any, str] | None:
        if not isinstance(reference, str):
            return None
        try:
            address, fragment = urldefrag(urljoin(base, reference))
        except ValueError:
            return None
        if reference.startswith("#"):
            address, fragment = base, reference[1:]
        found = self._resources.get(address)
        if found is None:
            return None
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            return self._anchors.get((address, fragment))
        for step in fragment.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and name in found:
                found = found[name]
                if isinstance(found, dict):
                    address = _base(found, address)
            elif isinstance(found, list) and name.isdecimal() and len(name) < 7 and int(name) < len(found):
                found = found[int(name)]
            else:
                return None
        return (found, address) if isinstance(found, (dict, bool)) else None


class _Walk:
    """One value's way through a schema. Verdicts are kept by subschema and value, which bounds their number."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._give_up = time.monotonic() + seconds
        self._kept: dict[tuple[int, int], bool] = {}
        # Values made on the way would otherwise give their identity to others.
        self._sizes: dict[int, float] = {}
        self._under_way: set[tuple[int, int]] = set()

    def fits(self, node: _Node, value: Any) -> bool:
        key = (id(node), id(value))
        known = self._kept.get(key)
        if known is not None:
            return known
        if len(self._kept) >= MOST_VERDICTS or time.monotonic() > self._give_up:
            raise _OutOfBudget
        # A schema that refers to itself on the same value asks nothing more by that.
        self._kept[key] = True
        verdict = self._fits(node, value)
        self._kept[key] = verdict
        return verdict

    def _fits(self, node: _Node, value: Any) -> bool:
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

    def _leaf_fits(self, node: _Node, value: Any) -> bool:
        self._charge(node, value)
        return node.leaf_fits(value)

    def _charge(self, node: _Node, value: Any) -> None:
        """Refuse what `jsonschema-rs` would work on for longer than the time that is left."""
        work = 0.0
        if isinstance(value, str):
            work = len(value) * (node.pattern_costs + 0.01)
        elif node.whole and isinstance(value, (dict, list)):
            size = self._sizes.get(id(value))
            if size is None:
                size = self._sizes[id(value)] = float(sum(_size(value, int(_MOST_WORK))))
            work = size * 0.1 * max(1, len(node.leaf.get("enum", ())))
        if work > min(_MOST_WORK, self._seconds * 1e6):
            raise _OutOfBudget

    def _branch(self, node: _Node, value: Any) -> Iterable[_Node]:
        if node.if_then_else is None:
            return ()
        condition, then, otherwise = node.if_then_else
        chosen = then if self.fits(condition, value) else otherwise
        return () if chosen is None else (chosen,)

    def _below(self, node: _Node, value: Any) -> Iterator[tuple[_Node, Any, list[str | int]]]:
        """What must hold of the parts of the value, and, by dependencies, of itself."""
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

    def _of_property(self, node: _Node, name: str) -> Iterator[_Node]:
        known = name in node.properties
        if known:
            yield node.properties[name]
        for _, pattern, below in node.patterns:
            if len(name) * pattern.cost > _MOST_WORK / 10 or time.monotonic() > self._give_up:
                raise _OutOfBudget
            if pattern.matches(name):
                known = True
                yield below
        if not known and node.additional is not None:
            yield node.additional

    def _contains(self, node: _Node, value: Any) -> bool:
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

    def report(self, node: _Node, value: Any) -> list[tuple[str, str]]:
        """The first errors; fewer where the time is up."""
        self._give_up = time.monotonic() + self._seconds
        found: list[tuple[str, str]] = []
        try:
            for path, text in self._errors(node, value, []):
                short = text if len(text) <= LONGEST_MESSAGE else text[:LONGEST_MESSAGE] + "…"
                found.append((_written(path), short))
                if len(found) == MOST_ERRORS:
                    break
        except (_OutOfBudget, RecursionError):
            # The verdict is known; what could be told of it has been.
            return found
        return found

    def _errors(self, node: _Node, value: Any, path: list[str | int]) -> Iterator[tuple[list[str | int], str]]:
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

    def _own_errors(self, node: _Node, value: Any, path: list[str | int]) -> Iterator[tuple[list[str | int], str]]:
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


def _width(root: _Node) -> float:
    """How many subschemas see one value at most; 0 where the schema is recursive or too large to tell."""
    widest = 0.0
    left = _MOST_WIDTH
    waiting: list[tuple[tuple[_Node, ...], int]] = [((root,), 0)]
    while waiting:
        seeds, depth = waiting.pop()
        seen: list[_Node] = []
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


def _weight(node: _Node) -> int:
    # Telling whether items are unique hashes all that is in them.
    return len(node.leaf.get("enum", ())) + len(node.patterns) + (20 if "uniqueItems" in node.leaf else 0)


def _size(value: Any, most: int) -> tuple[int, int]:
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


def _regex(size: int = _PATTERN_TIERS[-1][0]) -> jsonschema_rs.RegexOptions:
    return jsonschema_rs.RegexOptions(size_limit=size, dfa_size_limit=1 << 20)


def _base(schema: dict[str, Any], base: str) -> str:
    name = schema.get("$id", schema.get("id"))
    if not isinstance(name, str) or name.startswith("#"):
        return base
    try:
        return urldefrag(urljoin(base, name))[0]
    except ValueError:
        return base


def _written(path: list[str | int]) -> str:
    return "input" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 1 << 53 and value == int(value)


def _is_schema(value: Any) -> bool:
    return isinstance(value, (dict, bool))


def _is_type(value: Any) -> bool:
    names = value if isinstance(value, list) else [value]
    return (
        bool(names)
        and all(isinstance(name, str) and name in _TYPES for name in names)
        and len(set(names)) == len(names)
    )


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value) and len(set(value)) == len(value)


def _are_schemas(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_schema, value))


def _is_map(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_schema, value.values()))


_LEAF: dict[str, Callable[[Any], bool]] = {
    "type": _is_type,
    "enum": lambda value: isinstance(value, list) and bool(value),
    "const": lambda value: True,
    "multipleOf": lambda value: _is_number(value) and value > 0,
    "pattern": lambda value: isinstance(value, str),
    "format": lambda value: isinstance(value, str),
    "uniqueItems": lambda value: isinstance(value, bool),
    "required": _are_names,
    "dependentRequired": lambda value: isinstance(value, dict) and all(map(_are_names, value.values())),
    **dict.fromkeys(_NUMBERS[1:], _is_number),
    **dict.fromkeys(_COUNTS, _is_count),
}
"""What each keyword without schemas may be."""

_SHAPES: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys((*_ONE, *_UNEVALUATED), _is_schema),
    **dict.fromkeys(_LISTS, _are_schemas),
    **dict.fromkeys(_MAPS, _is_map),
    "items": lambda value: _is_schema(value) or (isinstance(value, list) and all(map(_is_schema, value))),
    "minContains": _is_count,
    "maxContains": _is_count,
    "dependencies": lambda value: (
        isinstance(value, dict) and all(_is_schema(item) or _are_names(item) for item in value.values())
    ),
}
"""What each keyword with schemas may be."""
