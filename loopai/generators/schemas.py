"""What a JSON schema says about one value, with references and unions resolved; values are checked elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MAX_DEPTH = 20  # a schema may refer to itself


@dataclass(frozen=True)
class Stated:
    """The types and the closed list of values that a schema states; empty and None if it states nothing."""

    types: frozenset[str] = frozenset()
    values: tuple[Any, ...] | None = None


def stated(schema: Any, path: Sequence[str | int | None] = ()) -> Stated:
    """Return what `schema` says about the value at `path`; null as an alternative is ignored."""
    parts = _parts(schema, schema, 0)
    for step in path:
        inner = []
        for part in parts:
            below = (
                part.get("items")
                if isinstance(step, int) or step is None
                else _mapping(part.get("properties")).get(step)
            )
            inner.extend(_parts(below, schema, 0))
        parts = inner
    types: set[str] = set()
    values: list[Any] = []
    closed = bool(parts)
    for part in parts:
        kinds = part.get("type")
        types.update([kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else [])
        if isinstance(part.get("enum"), list):
            values.extend(part["enum"])
        elif "const" in part:
            values.append(part["const"])
        elif kinds != "null":
            closed = False
    types.discard("null")
    values = [value for value in values if value is not None]
    return Stated(frozenset(types), tuple(values) if closed and values else None)


def _parts(schema: Any, root: Any, depth: int) -> list[Mapping[str, Any]]:
    """The alternatives of a schema, with their references resolved."""
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return []
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return _parts(_resolve(reference, root), root, depth + 1)
    for union in ("anyOf", "oneOf", "allOf"):
        members = schema.get(union)
        if isinstance(members, list):
            return [part for member in members for part in _parts(member, root, depth + 1)]
    return [schema]


def _resolve(reference: str, root: Any) -> Any:
    if not reference.startswith("#"):
        return None
    schema = root
    for step in reference[1:].strip("/").split("/"):
        if step:
            schema = _mapping(schema).get(step.replace("~1", "/").replace("~0", "~"))
    return schema


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
