"""Encode values as JSON, and refuse values that JSON cannot represent, with their place.

JSON has no NaN, infinity or set; pydantic writes them as `null`, bare `NaN` or a list in any order, and a secret as
stars. They are refused here, in any container, before anything is sent.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any, Callable, Generic, Optional, TypeVar
from uuid import UUID

from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticSerializationError, from_json, to_json, to_jsonable_python

from ..exceptions import ValidationException
from .members import DeclaredMember, Described, described_by, is_typed, members_of, serializers_in

T = TypeVar("T")


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
        flaw = _TOO_DEEP
    except _UNSENDABLE as error:
        flaw = _culprit(form, error)
    raise _unsendable(name, *flaw)


class InputType(Generic[T]):
    """The type of inputs: checks them, and encodes them as the type defines."""

    def __init__(self, kind: Any) -> None:
        self._adapter: TypeAdapter[T] = TypeAdapter(kind)
        self._custom = bool(serializers_in(kind, ()))

    def form(self, value: Any, name: str) -> Any:
        """Return the JSON form of `value`, in Python's types.

        Raises pydantic's `ValidationError` for a value of another type, and `ValidationException` as `encode` does.
        """
        checked = self._adapter.validate_python(value)
        write = self._adapter.serializer
        try:
            made = _written(
                partial(write.to_python, checked, mode="json", by_alias=True, fallback=_leniently),
                partial(write.to_json, checked, by_alias=True, fallback=_leniently),
            )
            if self._custom:
                _check(made, "")
            else:
                _compare(checked, made, "")
        except _FlawError as error:
            flaw = error.place, error.reason
        except RecursionError:
            flaw = _TOO_DEEP
        except _UNSENDABLE as error:
            flaw = _culprit(checked, error)
        else:
            return made
        raise _unsendable(name, *flaw)


def _unsendable(name: str, place: str, reason: str) -> ValidationException:
    place = (name + place).lstrip(".") or "body"
    return ValidationException(f"{place} cannot be sent as JSON: {reason}", errors={place: [reason]})


_TOO_DEEP = "", "is nested too deeply, or contains itself"

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
        members = members_of(value.__class__)
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
    if is_typed(kind):
        made = _written(
            partial(to_jsonable_python, value, fallback=_leniently), partial(to_json, value, fallback=_leniently)
        )
        _compare(value, made, place)
        return made
    if is_dataclass(kind):
        described = described_by(kind)
        if described is not None:
            return _form_of_described(value, described, place)
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
_STARS = "a secret would be sent as stars: pass the result of its get_secret_value(), if it may be sent"


def _form_of_described(value: Any, described: Described, place: str) -> Any:
    write = described.serializer
    made = _written(
        partial(write.to_python, value, mode="json", by_alias=True, fallback=_leniently),
        partial(write.to_json, value, by_alias=True, fallback=_leniently),
    )
    _check(made, place)
    for name in described.plain:
        if name in made:
            _compare(getattr(value, name), made[name], f"{place}.{name}")
    return made


def _written(as_python: Callable[[], Any], as_json: Callable[[], bytes]) -> Any:
    """Return the serialiser's result for a value, in Python's types; NaN and infinities are kept."""
    made = as_python()
    try:
        _check(made, "")
    except _FlawError:
        # A class may define their encoding, and only for JSON.
        return _named(made, from_json(as_json()))
    return made


def _named(made: Any, sent: Any) -> Any:
    """Return `made`, with each number replaced that is a text in `sent`, its JSON form."""
    if isinstance(made, float) and isinstance(sent, str):
        return sent
    if isinstance(made, dict) and isinstance(sent, dict):
        return {name: _named(item, sent.get(name)) for name, item in made.items()}
    if isinstance(made, list) and isinstance(sent, list) and len(made) == len(sent):
        return [_named(item, each) for item, each in zip(made, sent)]
    return made


def _finite(value: Any, place: str) -> Any:
    # `math` does not accept a signalling NaN.
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
    if plain is None:
        raise _FlawError(place, "the key None has no JSON form (csv.DictReader puts a row's surplus cells there)")
    try:
        text: str = next(iter(to_jsonable_python({plain: None})))
    except (TypeError, *_UNSENDABLE) as error:
        raise _FlawError(place, f"has a key that JSON cannot represent: {error}") from None
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
        raise _FlawError(
            place, "is a DataFrame, which is many rows: pass it to batch_execute or batch_stream, one at a time"
        )
    if library == "pandas":
        return _of_pandas(value, place)
    if hasattr(value, "as_py"):
        try:
            return value.as_py()
        except (ArithmeticError, ValueError) as error:
            raise _FlawError(place, str(error)) from None
    # A column or part of one; its missing values are those of a DataFrame.
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
        # As a value it is one row or one list; its missing values are those of a DataFrame.
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
    return float(made) if type(made).__module__ == "numpy" else made  # a long double has no other equivalent


def _time_of_numpy(value: Any, place: str) -> Any:
    """Return a `datetime64` or `timedelta64`; `item()` returns an integer for those that Python's types cannot hold."""
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
    # Only numpy scalars such as NaN are unequal to themselves; arrays have a length.
    return kind.__module__ == "numpy" and not hasattr(value, "__len__") and bool(value != value)  # noqa: PLR0124  # NaN


# Values that pydantic serialises by the declared types of a class


def _compare(value: Any, made: Any, place: str) -> None:
    """Raise `_FlawError` if `made`, the serialiser's result for `value`, does not represent `value`."""
    kind = type(value)
    if isinstance(value, Enum):
        _compare(value.value, made, place)
    elif isinstance(value, (float, Decimal)):
        # If a class encodes them as texts, they are texts.
        if made is None or isinstance(made, float) or isinstance(value, Decimal):
            _finite(value, place)
    elif isinstance(value, (set, frozenset)) and isinstance(made, list):
        raise _FlawError(place, _SET)
    elif _is_secret(value) and isinstance(made, str) and not made.strip("*"):
        raise _FlawError(place, _STARS)
    elif is_typed(kind):
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
    elif isinstance(value, (list, tuple, deque)) and isinstance(made, list) and len(value) == len(made):
        for number, (item, sent) in enumerate(zip(value, made)):
            _compare(item, sent, f"{place}[{number}]")
    elif isinstance(value, Iterator) and isinstance(made, list):
        for number, sent in enumerate(made):
            _check(sent, f"{place}[{number}]")
            # The iterator is consumed, so its values can no longer be checked.
            if sent is None or isinstance(sent, (list, dict)) or (isinstance(sent, str) and not sent.strip("*")):
                raise _FlawError(f"{place}[{number}]", "cannot be checked within an iterator: pass a list")
    else:
        if type(value).__module__.partition(".")[0] in _LIBRARIES:
            form = _form(value, place)  # raises for its flaws
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
    members = members_of(value.__class__)
    root = getattr(value, "root", None) if getattr(type(value), "__pydantic_root_model__", False) else None
    if members.custom:
        _check(made, place)
        if not members.for_json:
            _check_lost(_in_python(value), made, place)
        if isinstance(made, dict):
            for member in members.each:
                _check_stars(value, member, made, place)
    elif root is not None:
        if members.each[0].custom:
            _check(made, place)
            if not members.each[0].for_json:
                _check_lost(_in_python(value), made, place)
        else:
            _compare(root, made, place)
    elif isinstance(made, dict):
        aliases: set[str] = set()
        extra = getattr(value, "__pydantic_extra__", None) or {}
        python: Optional[Any] = None
        for member in (*members.each, *(DeclaredMember(name, name, False) for name in extra)):
            inside = f"{place}.{member.alias}"
            if member.alias not in made:
                continue  # excluded: not sent
            if member.alias in aliases:
                raise _FlawError(inside, f"two members are the same text in JSON: {member.alias!r}")
            aliases.add(member.alias)
            sent = made[member.alias]
            if not member.custom and not (member.computed and type(sent) in {int, bool}):
                _compare(getattr(value, member.name), sent, inside)
                continue
            _check(sent, inside)
            _check_stars(value, member, made, place)
            if member.custom and not member.for_json:
                python = _in_python(value) if python is None else python
                _check_lost(python.get(member.alias) if isinstance(python, dict) else None, sent, inside)
    else:
        _check(made, place)


def _in_python(value: Any) -> Any:
    """Return an instance serialised to Python's types, in which NaN is kept."""
    return value.__pydantic_serializer__.to_python(value, by_alias=True, fallback=_leniently, warnings=False)


def _check_lost(python: Any, made: Any, place: str) -> None:
    """Raise `_FlawError` for a number that a serialiser returned in Python but that is null in JSON."""
    if isinstance(python, (float, Decimal)) and made is None:
        _finite(python, place)
    elif isinstance(python, Mapping) and isinstance(made, dict):
        for (_, item), (name, sent) in zip(python.items(), made.items()):
            _check_lost(item, sent, f"{place}.{name}")
    elif isinstance(python, (list, tuple, deque)) and isinstance(made, list):
        for number, (item, sent) in enumerate(zip(python, made)):
            _check_lost(item, sent, f"{place}[{number}]")


def _check_stars(value: Any, member: DeclaredMember, made: dict[str, Any], place: str) -> None:
    """Raise `_FlawError` for a member whose secret a user's serialiser turned into stars."""
    sent = made.get(member.alias)
    if isinstance(sent, str) and not sent.strip("*") and _is_secret(getattr(value, member.name, None)):
        raise _FlawError(f"{place}.{member.alias}", _STARS)


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
        parts = ((f".{member.alias}", getattr(value, member.name)) for member in members_of(value.__class__).each)
    for place, part in parts:
        try:
            to_json(part)
        except _UNSENDABLE as inner:
            inner_flaw = _culprit(part, inner)
            return place + inner_flaw[0], inner_flaw[1]
    return "", _refusal(value, str(error))


def _refusal(value: Any, text: str) -> str:
    """Return the serialiser's refusal of a value in words, with what to pass instead."""
    if isinstance(value, (bytes, bytearray)):
        return "these bytes are not UTF-8 text: pass them as text, in base64 for example"
    if "surrogate" in text:
        return "a lone surrogate cannot be written as UTF-8: remove or replace it"
    if "unknown type" in text:
        return f"{type(value).__name__} has no JSON form: pass a dict, a list, a text or a number"
    return text
