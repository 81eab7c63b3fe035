"""Values as JSON: what can be sent is, and what cannot is named by its place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Optional

from pydantic import BaseModel, PydanticUserError, TypeAdapter
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from ..exceptions import ValidationException


def encode(value: Any, name: str = "") -> bytes:
    """`value` as JSON; pydantic models, dates, UUIDs and the like included.

    Raises `ValidationException` naming the member of `name` that JSON cannot say (a set, NaN, a lone surrogate).
    """
    try:
        flaw = _flaw(value)
        if flaw is None:
            return to_json(value)
    except RecursionError:
        flaw = "", "is nested too deeply, or holds itself"
    except _UNSENDABLE as error:
        flaw = _culprit(value, error)
    place, reason = flaw
    place = (name + place).lstrip(".") or "body"
    raise ValidationException(f"{place} cannot be sent as JSON: {reason}", errors={place: [reason]})


_UNSENDABLE = (PydanticSerializationError, UnicodeError, ValueError, OverflowError)


def _flaw(value: Any) -> Optional[tuple[str, str]]:
    """Place and reason of what pydantic would write as something else: a set in any order, NaN as null."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else ("", f"{float(value)} is no JSON number")
    # Mapping asks in Python, which would be a tenth of encoding a small input: a dict need not be asked.
    if kind is dict or isinstance(value, Mapping):
        for name, item in value.items():
            inner = _flaw(item)
            if inner is not None:
                return f".{name}{inner[0]}", inner[1]
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            inner = _flaw(item)
            if inner is not None:
                return f"[{number}]{inner[0]}", inner[1]
    elif isinstance(value, (set, frozenset)):
        return "", "a set has no order: pass a list"
    elif isinstance(value, BaseModel):
        return _flaw(to_jsonable_python(value))
    return None


def _culprit(value: Any, error: Exception) -> tuple[str, str]:
    """Place and reason of the innermost part that cannot be written."""
    parts: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        parts = ((f".{name}".encode("utf-8", "backslashreplace").decode(), item) for name, item in value.items())
    elif isinstance(value, (list, tuple)):
        parts = ((f"[{number}]", item) for number, item in enumerate(value))
    for place, part in parts:
        try:
            to_json(part)
        except _UNSENDABLE as inner:
            inner_flaw = _culprit(part, inner)
            return place + inner_flaw[0], inner_flaw[1]
    return "", str(error)


def schema_of(schema: Any, name: str) -> Any:
    """A JSON schema: of a pydantic model or any other type its own, of a schema the thing itself.

    Raises `ValidationException` naming `name` for a type that has none.
    """
    if schema is None or isinstance(schema, (Mapping, list, str, bool, int, float)):
        return schema
    try:
        return TypeAdapter(schema).json_schema()
    except PydanticUserError as error:  # no schema for the type, or none in JSON
        reason = f"is neither a JSON schema nor a type that has one: {str(error).splitlines()[0]}"
        raise ValidationException(f"{name} {reason}", errors={name: [reason]}) from None
