"""Encode values as JSON, and refuse values that JSON cannot represent, with their place.

JSON has no NaN, infinity or set; pydantic writes them as `null`, bare `NaN` or a list in any order, and a secret as
stars. They are refused here, in any container, before anything is sent.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple, get_args
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, from_json, to_json, to_jsonable_python

from ..exceptions import ValidationException


def encode(value: Any, name: str = "") -> bytes:
    """Return `value` as JSON; pydantic models, dataclasses, dates, UUIDs, numpy scalars and the like included.

    Raises `ValidationException`, with the place below `name`, for values that JSON cannot represent: NaN and
    infinities, sets, secrets, keys that are equal as text, lone surrogates, and values that contain themselves.
    """
    form = value
    try:
        if not _is_plain(value):
            form = _form(value, "")
        return to_json(form)
    except _FlawError as error:
        flaw = error.place, error.reason
    except RecursionError:
        flaw = "", "is nested too deeply, or contains itself"
    except _UNSENDABLE as error:
        flaw = _culprit(form, error)
    place, reason = flaw
    place = (name + place).lstrip(".") or "body"
    raise ValidationException(f"{place} cannot be sent as JSON: {reason}", errors={place: [reason]})


_UNSENDABLE = (PydanticSerializationError, UnicodeError, ValueError, OverflowError)

_SAFE = frozenset({str, int, bool, type(None), datetime, date, time, timedelta, UUID, bytes})
"""Types whose values JSON can represent, or that the serialiser refuses itself."""


class _FlawError(Exception):
    """Something that JSON cannot represent, with its place."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(place, reason)
        self.place = place
        self.reason = reason


def _is_plain(value: Any) -> bool:
    """Return whether the serialiser writes `value` unchanged; a fast path for almost every input."""
    kind = type(value)
    if kind in _SAFE:
        return True
    if kind is float:
        return math.isfinite(value)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or not (type(item) in _SAFE or _is_plain(item)):
                return False
        return True
    if kind is list or kind is tuple:
        return all(type(item) in _SAFE or _is_plain(item) for item in value)
    if isinstance(value, BaseModel):
        members = _members_of(value.__class__)
        return members.simple and not value.__pydantic_extra__ and _is_plain(value.__dict__)
    return False


def _form(value: Any, place: str) -> Any:
    """Return `value` in a form that the serialiser writes unchanged. Raises `_FlawError`."""
    kind = type(value)
    if kind in _SAFE:
        return value
    if isinstance(value, Enum):
        return _form(value.value, place)
    if isinstance(value, float):
        return _finite(value, place)
    if isinstance(value, Decimal):
        return _finite(value, place)
    if isinstance(value, Mapping):
        return _object(value.items(), place)
    if isinstance(value, (set, frozenset)):
        raise _FlawError(place, _SET)
    if _is_typed(kind):
        # By way of bytes: a class may say how NaN and the like are written, and only there.
        made = from_json(to_json(value, fallback=_leniently))
        _compare(value, made, place)
        return made
    if is_dataclass(kind):
        return _object(((member.name, getattr(value, member.name)) for member in fields(value)), place)
    if isinstance(value, tuple) and kind.__module__.partition(".")[0] == "pandas":
        return _object(zip(value._fields, value), place)  # type: ignore[attr-defined]  # a row of `itertuples`
    if isinstance(value, (list, tuple, deque, Iterator)):
        return [_form(item, f"{place}[{number}]") for number, item in enumerate(value)]
    if _is_secret(value):
        raise _FlawError(place, _STARS)
    known = _of_a_library(value, place)
    return known if known is value else _form(known, place)


_SET = "a set has no order: pass a list"
_STARS = "a secret would be sent as stars: pass what its get_secret_value() gives, if it may be sent"


def _finite(value: Any, place: str) -> Any:
    # `math` does not take a signalling NaN.
    if (isinstance(value, Decimal) and value.is_snan()) or not math.isfinite(value):
        raise _FlawError(place, f"{str(value).lower()} is not a JSON number: pass None")
    return value


def _object(items: Iterable[tuple[Any, Any]], place: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, item in items:
        text = _key(key, place)
        inside = f"{place}.{text}"
        if text in made:
            raise _FlawError(inside, f"two keys are the same text in JSON: {text!r}")
        made[text] = _form(item, inside)
    return made


def _key(key: Any, place: str) -> str:
    """Return the text of a key."""
    if isinstance(key, Enum):
        return _key(key.value, place)
    if isinstance(key, str):
        return str(key)
    if _is_secret(key):
        raise _FlawError(place, "a secret cannot be a key")
    if isinstance(key, (float, Decimal)):
        _finite(key, place)
    plain = _of_a_library(key, place)
    try:
        text: str = next(iter(to_jsonable_python({plain: None})))
    except (TypeError, *_UNSENDABLE) as error:
        raise _FlawError(place, f"has a key that JSON cannot say: {error}") from None
    return text


def _is_secret(value: Any) -> bool:
    return callable(getattr(value, "get_secret_value", None))


_LIBRARIES = frozenset({"numpy", "pandas", "polars", "pyarrow"})


def _of_a_library(value: Any, place: str = "") -> Any:
    """Return a value of numpy, pandas, polars or pyarrow as Python's own types; any other value unchanged."""
    library = type(value).__module__.partition(".")[0]
    if library == "numpy":
        return _of_numpy(value, place)
    if library not in _LIBRARIES:
        return value
    if hasattr(value, "columns"):
        raise _FlawError(place, "is a DataFrame, which is many rows: pass it to batch_execute or batch_stream")
    if library == "pandas":
        return _of_pandas(value, place)
    if hasattr(value, "as_py"):
        try:
            return value.as_py()
        except (ArithmeticError, ValueError) as error:
            raise _FlawError(place, str(error)) from None
    # A column or a part of one; missing values in it are those of its DataFrame.
    if type(value).__name__ == "Series":
        return [None if is_missing(item) else item for item in value]
    return list(value) if hasattr(value, "to_pylist") else value


def _of_pandas(value: Any, place: str) -> Any:
    kind = type(value).__name__
    if kind in {"NAType", "NaTType"}:
        raise _FlawError(place, f"{value} is a missing value: pass None")
    if (kind == "Timestamp" and value.nanosecond) or (kind == "Timedelta" and value.nanoseconds):
        return value.isoformat()  # the serialiser writes microseconds
    if kind == "Period":
        return str(value)
    if hasattr(value, "tolist"):
        # As a value it is one row or one list; its missing values are those of its DataFrame.
        items = [None if is_missing(item) else item for item in value]
        return dict(zip(value.index, items)) if kind == "Series" else items
    return value


def python_of(value: Any) -> Any:
    """Return a value of a data library as Python's own types, `None` if it is missing; any other value unchanged."""
    try:
        return _of_a_library(value)
    except _FlawError:
        return None


def _leniently(value: Any) -> Any:
    """The serialiser's fallback for unknown types; flaws are reported afterwards, with their place."""
    try:
        known = _of_a_library(value)
    except _FlawError:
        return None
    if known is value and isinstance(value, Mapping):
        return dict(value)
    if known is value:
        raise ValueError(f"Unable to serialize unknown type: {type(value)}")
    return known


def _of_numpy(value: Any, place: str) -> Any:
    if not hasattr(value, "tolist"):
        return value
    names = value.dtype.names
    if value.shape and (names or value.dtype.kind in "mM"):
        return list(value)
    if names:
        return {name: value[name] for name in names}
    if value.dtype.kind in "mM":
        return _time_of_numpy(value[()], place)
    made = value.tolist()
    return float(made) if type(made).__module__ == "numpy" else made  # a long double has no other equal


def _time_of_numpy(value: Any, place: str) -> Any:
    """A `datetime64` or `timedelta64`; those that Python's types cannot hold are bare integers there."""
    if is_missing(value):
        raise _FlawError(place, "NaT is a missing value: pass None")
    if isinstance(value.item(), (date, timedelta)):  # a datetime is a date
        return value.item()
    as_microseconds = value.astype(f"{type(value).__name__}[us]")
    if as_microseconds == value and isinstance(as_microseconds.item(), (date, timedelta)):
        return as_microseconds.item()
    if type(value).__name__ == "datetime64":
        return str(value)
    raise _FlawError(place, "is finer than microseconds, or too long: pass it as text")


def is_missing(value: Any) -> bool:
    """Return whether a cell of a DataFrame or Series is missing: null, NaN, `pd.NA` or NaT."""
    kind = type(value)
    if value is None or kind.__name__ in {"NAType", "NaTType"}:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, Decimal):
        return value.is_nan()
    # Of numpy's scalars those that are no number are unequal to themselves; its arrays have a length.
    return kind.__module__ == "numpy" and not hasattr(value, "__len__") and bool(value != value)  # noqa: PLR0124  # NaN


# What pydantic serialises by the types that a class declares


class _Member(NamedTuple):
    """One member of a class: its name in Python and in JSON, and whether a custom serialiser writes it."""

    name: str
    alias: str
    custom: bool
    computed: bool = False


class _Members(NamedTuple):
    """What a class sends: `simple` if each field is written unchanged, `custom` if a serialiser writes the object."""

    each: tuple[_Member, ...]
    simple: bool
    custom: bool


def _is_typed(kind: type) -> bool:
    return issubclass(kind, BaseModel) or (is_dataclass(kind) and hasattr(kind, "__pydantic_serializer__"))


@lru_cache(maxsize=1024)
def _members_of(kind: Hashable) -> _Members:
    decorated: Any = getattr(kind, "__pydantic_decorators__", None)
    known: Mapping[str, Any] = getattr(kind, "__pydantic_fields__", None) or getattr(kind, "model_fields", {})
    written = {name for each in decorated.field_serializers.values() for name in each.info.fields}
    found = [
        _Member(
            name,
            field.serialization_alias or field.alias or name,
            name in written or "*" in written or _has_serializer(field.annotation, field.metadata),
        )
        for name, field in known.items()
    ]
    for name, each in decorated.computed_fields.items():
        custom = name in written or "*" in written or _has_serializer(each.info.return_type, ())
        found.append(_Member(name, each.info.alias or name, custom, computed=True))
    aliases = {member.alias for member in found}
    simple = (
        len(aliases) == len(found)
        and not decorated.model_serializers
        and not any(member.custom or member.computed for member in found)
    )
    return _Members(tuple(found), simple, bool(decorated.model_serializers))


def _has_serializer(annotation: Any, metadata: Sequence[Any]) -> bool:
    named = {type(each).__name__ for each in (*metadata, *getattr(annotation, "__metadata__", ()))}
    return bool(named & {"PlainSerializer", "WrapSerializer"}) or any(
        _has_serializer(part, ()) for part in get_args(annotation)
    )


def _compare(value: Any, made: Any, place: str) -> None:
    """Raise `_FlawError` if `made`, the serialiser's result for `value`, does not represent `value`."""
    kind = type(value)
    if isinstance(value, Enum):
        _compare(value.value, made, place)
    elif isinstance(value, (float, Decimal)):
        # Where a class asks for them as texts, they are texts.
        if made is None or isinstance(made, float) or isinstance(value, Decimal):
            _finite(value, place)
    elif isinstance(value, (set, frozenset)) and isinstance(made, list):
        raise _FlawError(place, _SET)
    elif _is_secret(value) and isinstance(made, str) and not made.strip("*"):
        raise _FlawError(place, _STARS)
    elif _is_typed(kind):
        _compare_members(value, made, place)
    elif is_dataclass(kind) and isinstance(made, dict):
        for member in fields(value):
            if member.name in made:
                _compare(getattr(value, member.name), made[member.name], f"{place}.{member.name}")
    elif isinstance(value, Mapping) and isinstance(made, dict):
        _compare_keys(value, place)
        for (key, item), (text, sent) in zip(value.items(), made.items()):
            _key(key, place)
            _compare(item, sent, f"{place}.{text}")
    elif isinstance(value, (list, tuple)) and isinstance(made, list) and len(value) == len(made):
        for number, (item, sent) in enumerate(zip(value, made)):
            _compare(item, sent, f"{place}[{number}]")
    else:
        if type(value).__module__.partition(".")[0] in _LIBRARIES:
            form = _form(value, place)  # has its flaws named
            if isinstance(form, str) and form != made:
                raise _FlawError(place, f"would be sent as {made!r}: pass it as text")
        _check(made, place)


def _compare_keys(value: Mapping[Any, Any], place: str) -> None:
    if all(type(key) is str for key in value):
        return
    seen: set[str] = set()
    for key in value:
        text = _key(key, place)
        if text in seen:
            raise _FlawError(f"{place}.{text}", f"two keys are the same text in JSON: {text!r}")
        seen.add(text)


def _compare_members(value: Any, made: Any, place: str) -> None:
    members = _members_of(value.__class__)
    root = getattr(value, "root", None) if getattr(type(value), "__pydantic_root_model__", False) else None
    if members.custom:
        _check(made, place)
    elif root is not None:
        if members.each[0].custom:
            _check(made, place)
        else:
            _compare(root, made, place)
    elif isinstance(made, dict):
        aliases: set[str] = set()
        extra = getattr(value, "__pydantic_extra__", None) or {}
        for member in (*members.each, *(_Member(name, name, False) for name in extra)):
            inside = f"{place}.{member.alias}"
            if member.alias not in made:
                continue  # excluded: not sent
            if member.alias in aliases:
                raise _FlawError(inside, f"two members are the same text in JSON: {member.alias!r}")
            aliases.add(member.alias)
            sent = made[member.alias]
            if member.custom or (member.computed and type(sent) in {int, bool}):
                _check(sent, inside)
            else:
                _compare(getattr(value, member.name), sent, inside)
    else:
        _check(made, place)


def _check(made: Any, place: str) -> None:
    """Raise `_FlawError` for a number in `made`, a JSON value in Python's types, that JSON does not have."""
    if isinstance(made, float):
        _finite(made, place)
    elif isinstance(made, dict):
        for name, item in made.items():
            _check(item, f"{place}.{name}")
    elif isinstance(made, list):
        for number, item in enumerate(made):
            _check(item, f"{place}[{number}]")


def _culprit(value: Any, error: Exception) -> tuple[str, str]:
    """Return the place of the innermost part that cannot be written, and the reason."""
    parts: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        parts = ((f".{name}".encode("utf-8", "backslashreplace").decode(), item) for name, item in value.items())
    elif isinstance(value, (list, tuple)):
        parts = ((f"[{number}]", item) for number, item in enumerate(value))
    elif isinstance(value, BaseModel):
        parts = ((f".{member.alias}", getattr(value, member.name)) for member in _members_of(value.__class__).each)
    for place, part in parts:
        try:
            to_json(part)
        except _UNSENDABLE as inner:
            inner_flaw = _culprit(part, inner)
            return place + inner_flaw[0], inner_flaw[1]
    return "", str(error)
