"""Convert JSON bodies to values like the real server's model binding, with its errors.

Member names are case-insensitive, in snake_case or camelCase; unknown ones are ignored. `bodies` defines the bodies.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from pydantic_core import from_json

from .errors import ABSENT_BODY, REQUEST_FIELD, BindingProblem, unbindable
from .settings import DEEPEST_BODY

REQUIRED: Final = object()
"""Default of a required member."""

INT_MAX = 2**31 - 1
"""Integers are 32 bits wide on the real server."""

_NOT_FINITE = {"NaN", "Infinity", "-Infinity"}
_INFINITE = (math.inf, -math.inf)
_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


class _WrongType(Exception):
    """The value is not of the type."""


@dataclass(frozen=True)
class Kind:
    """A type of members: its name on the real server, how to read it, its JSON schema.

    A `reference` type allows null; whether a member does is defined by the member.
    """

    name: str
    read: Callable[[Any], Any]
    schema: Mapping[str, Any]
    reference: bool = False


@dataclass(frozen=True)
class Member:
    """A member of a body. `bounds` is for documentation only: rules with their own messages check it."""

    name: str
    kind: Kind | Body | ListOf
    default: Any = REQUIRED
    nullable: bool = False
    bounds: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def title(self) -> str:
        """The member's name in error keys (`LatencyTargetMs`)."""
        return pascal(self.name)


@dataclass(frozen=True)
class ListOf:
    """A list of bodies, or of any values."""

    items: Body | None = None


class Body:
    """An object with members; `name` is its type on the real server."""

    def __init__(self, name: str, *members: Member) -> None:
        self.name = name
        self._members = members
        self._by_name = {member.name: member for member in members}
        self._by_folded = {_folded(member.name): member for member in members}

    def bind(self, content: bytes) -> dict[str, Any]:
        """Return the members' values, with defaults. Raises `BindingProblem`."""
        value = parse(content)
        if value is None:
            raise BindingProblem({"": [ABSENT_BODY], **REQUEST_FIELD})
        nulls: dict[str, list[str]] = {}
        members = self._read(value, "$", "", nulls)
        if nulls:
            raise BindingProblem(nulls)
        return members

    def _read(self, value: Any, path: str, place: str, nulls: dict[str, list[str]]) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _unconvertible(f"Loopai.CloudApi.DTOs.{self.name}", path)
        values: dict[str, Any] = {}
        for key, item in value.items():
            member = self._by_name.get(key) or self._by_folded.get(_folded(key))
            if member is not None:
                values[member.name] = _member(member, item, f"{path}.{key}", place + member.title, nulls)
        missing = [member.name for member in self._members if member.default is REQUIRED and member.name not in values]
        if missing:
            told = ", ".join(f"'{name}'" for name in missing)
            raise unbindable(
                path,
                f"JSON deserialization for type 'Loopai.CloudApi.DTOs.{self.name}' was missing required properties "
                f"including: {told}.",
            )
        for member in self._members:
            if member.name not in values:
                values[member.name] = [] if member.default == [] else member.default
        return values

    def schema(self) -> dict[str, Any]:
        """The body's JSON schema."""
        return {
            "type": "object",
            "properties": {member.name: _schema(member) for member in self._members},
            "required": [member.name for member in self._members if member.default is REQUIRED],
        }


def _member(member: Member, value: Any, path: str, place: str, nulls: dict[str, list[str]]) -> Any:
    kind = member.kind
    if value is None and (member.nullable or (isinstance(kind, Kind) and kind is ANY)):
        return None
    if isinstance(kind, Kind):
        if value is None and kind.reference:
            nulls[place] = [f"The {place.rpartition('.')[2]} field is required."]
            return None
        try:
            return kind.read(value)
        except _WrongType:
            raise _unconvertible(kind.name, path) from None
    if value is None:
        nulls[place] = [f"The {place.rpartition('.')[2]} field is required."]
        return None
    if isinstance(kind, Body):
        return kind._read(value, path, f"{place}.", nulls)
    if not isinstance(value, list):
        raise _unconvertible("System.Collections.Generic.IReadOnlyList", path)
    if kind.items is None:
        return value
    body = kind.items
    return [body._read(item, f"{path}[{at}]", f"{place}[{at}].", nulls) for at, item in enumerate(value)]


def _schema(member: Member) -> dict[str, Any]:
    kind = member.kind
    if isinstance(kind, Body):
        schema: dict[str, Any] = kind.schema()
    elif isinstance(kind, ListOf):
        schema = {"type": "array", "items": kind.items.schema() if kind.items else {}}
    else:
        schema = {**kind.schema}
    schema.update(member.bounds)
    if member.nullable:
        schema = {"anyOf": [schema, {"type": "null"}]}
    if member.default not in (REQUIRED, None):
        schema["default"] = member.default
    return schema


def parse(content: bytes) -> Any:
    """Return the JSON value of a body. Raises `BindingProblem` if it is invalid, too deep or has infinite numbers."""
    if not content.strip():
        raise BindingProblem({"": [ABSENT_BODY], **REQUEST_FIELD})
    try:
        value = from_json(content, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise unbindable("$", f"The body is not JSON: {error}.") from None
    _check([value], 0)
    return value


def _check(values: Iterable[Any], depth: int) -> None:
    for value in values:
        kind = type(value)
        if kind is float:
            # A number too large for a double is read as infinite, which cannot be written as JSON.
            if value in _INFINITE:
                raise unbindable("$", "The body has a number that is too large.")
        elif kind is dict or kind is list:
            if depth == DEEPEST_BODY:
                raise unbindable("$", f"The maximum configured depth of {DEEPEST_BODY} has been exceeded.")
            _check(value.values() if kind is dict else value, depth + 1)


def _unconvertible(type_name: str, path: str) -> BindingProblem:
    return unbindable(path, f"The JSON value could not be converted to {type_name}. Path: {path}.")


def _folded(name: str) -> str:
    return name.replace("_", "").lower()


def pascal(name: str) -> str:
    """`latency_target_ms` → `LatencyTargetMs`."""
    return "".join(part.capitalize() for part in name.split("_"))


def _read_guid(value: Any) -> str:
    if not isinstance(value, str) or not _GUID.fullmatch(value):
        raise _WrongType
    return value.lower()


def _read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise _WrongType
    return value


def _read_integer(value: Any) -> int:
    if isinstance(value, str) and len(value) < 12 and _INTEGER.fullmatch(value):
        value = int(value)
    if type(value) is not int or not -INT_MAX - 1 <= value <= INT_MAX:
        raise _WrongType
    return value


def _read_number(value: Any) -> float:
    if isinstance(value, str) and value in _NOT_FINITE:
        # The published server reads these, and then refuses them as out of range.
        return float(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _WrongType
    try:
        number = float(value)
    except OverflowError:
        raise _WrongType from None
    if math.isinf(number):
        raise _WrongType
    return number


def _read_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _WrongType
    return value


GUID = Kind("System.Guid", _read_guid, {"type": "string", "format": "uuid"})
TEXT = Kind("System.String", _read_text, {"type": "string"}, reference=True)
INTEGER = Kind("System.Int32", _read_integer, {"type": "integer", "format": "int32"})
NUMBER = Kind("System.Double", _read_number, {"type": "number", "format": "double"})
FLAG = Kind("System.Boolean", _read_flag, {"type": "boolean"})
ANY = Kind("System.Text.Json.JsonDocument", lambda value: value, {})
