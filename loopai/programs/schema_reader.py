"""Read a JSON schema into `Subschema`s, and remove keywords that cannot be checked, with a warning for each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from .schema_walk import MOST_ERRORS
from .subschemas import Patterns, Subschema

__all__ = ["SchemaReader", "SchemaTooLarge"]

MOST_SUBSCHEMAS = 20_000

_DIALECTS = re.compile(r"https?://json-schema\.org/(draft-0[467]|draft/2019-09|draft/2020-12)/schema#?")
_TYPES = {"array", "boolean", "integer", "null", "number", "object", "string"}
# Keywords that do not depend on other keywords and contain no schemas.
_NUMBERS = ("multipleOf", "maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum")
_COUNTS = ("maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties")
_WHOLE = ("enum", "const", "uniqueItems")
_ONE = ("additionalProperties", "propertyNames", "contains", "not", "if", "then", "else", "additionalItems")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAPS = ("properties", "patternProperties", "dependentSchemas")
_UNEVALUATED = ("unevaluatedProperties", "unevaluatedItems")


class SchemaTooLarge(ValueError):
    """The schema is too large to check against; the message says by which measure."""


class SchemaReader:
    """Makes nodes from a schema, and removes keywords that cannot be checked."""

    def __init__(self, schema: Any, warnings: list[str]) -> None:
        self.schema = schema
        self.patterns = Patterns()
        self.has_unevaluated = False
        self._warnings = warnings
        self._nodes: dict[int, Subschema] = {}
        self._waiting: list[tuple[Subschema, Any, str, str]] = []
        self._resources: dict[str, Any] = {}
        self._anchors: dict[tuple[str, str], tuple[Any, str]] = {}
        self._dialect: str | None = None
        self._legacy = False

    def build(self) -> Subschema:
        """Return the root. Raises `SchemaTooLarge`, `RecursionError`."""
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

    def _node(self, schema: Any, base: str, place: str) -> Subschema:
        known = self._nodes.get(id(schema)) if isinstance(schema, dict) else None
        if known is not None:
            return known
        node = Subschema()
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

    def _fill(self, node: Subschema, schema: dict[str, Any], base: str, place: str) -> None:
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

    def _map(self, schemas: dict[str, Any], base: str, place: str) -> dict[str, Subschema]:
        return {name: self._node(item, base, f"{place}/{name}") for name, item in schemas.items()}

    def _fill_leaf(self, node: Subschema, schema: dict[str, Any], place: str) -> None:
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

    def _fill_patterns(self, node: Subschema, schema: dict[str, Any], base: str, place: str) -> None:
        schemas: dict[str, Any] = schema.get("patternProperties", {})
        for source in list(schemas):
            pattern = self.patterns.get(source)
            if pattern is None:
                self._leave_out(schemas, source, f"{place}/patternProperties", "is under a pattern that cannot be run")
                # Otherwise members that the pattern matches would be refused as additional.
                for keyword in ("additionalProperties", "unevaluatedProperties"):
                    if keyword in schema:
                        self._leave_out(schema, keyword, place, "needs that pattern")
                continue
            below = self._node(schemas[source], base, f"{place}/patternProperties/{source}")
            node.patterns.append((source, pattern, below))

    def _fill_arrays(
        self,
        node: Subschema,
        schema: dict[str, Any],
        base: str,
        place: str,
        prefix: list[Subschema],
        part: dict[str, Subschema],
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

    def _fill_dependencies(self, node: Subschema, schema: dict[str, Any], base: str, place: str) -> None:
        for name, needed in schema.get("dependencies", {}).items():
            below = {"required": needed} if isinstance(needed, list) else needed
            if isinstance(below, (dict, bool)):
                # The schema itself keeps it alive: nodes are identified by the objects that they are made from.
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


def _base(schema: dict[str, Any], base: str) -> str:
    name = schema.get("$id", schema.get("id"))
    if not isinstance(name, str) or name.startswith("#"):
        return base
    try:
        return urldefrag(urljoin(base, name))[0]
    except ValueError:
        return base


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
"""The allowed values of each keyword without schemas."""

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
"""The allowed values of each keyword with schemas."""
