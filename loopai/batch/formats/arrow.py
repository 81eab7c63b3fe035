"""Convert Arrow values to JSON and back. Parquet files are handled elsewhere."""

from __future__ import annotations

import base64
import datetime as dt
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, Callable, Optional
from uuid import UUID

from ...exceptions import ConfigurationError

Convert = Callable[[Any], Any]

_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001  # Arrow counts from here, in UTC or without a zone
_MICROSECOND = dt.timedelta(microseconds=1)
_NANOSECONDS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1000, "ns": 1}
_TIME = re.compile(r"(?:(\d{4}-\d\d-\d\d)T)?(\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?\Z")
_DURATION = re.compile(r"(-?)P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d{1,9}))?S)?)?\Z")


def pyarrow() -> Any:
    """Return the library. Raises `ConfigurationError` if it is not installed."""
    try:
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError:
        raise ConfigurationError("reading and writing Parquet needs pyarrow: pip install pyarrow") from None
    return pyarrow


def errors_of(arrow: Any) -> tuple[type[Exception], ...]:
    """The exceptions that Arrow raises for values that it, or Python, cannot represent."""
    return (arrow.ArrowException, ValueError, TypeError, OverflowError, ArithmeticError, LookupError)


class Unsupported(ValueError):
    """An Arrow type that JSON, or Parquet, cannot represent."""


class ArrowValues:
    """The values of a schema's columns, read row by row. Times, durations and zones are texts, as in JSON."""

    def __init__(self, arrow: Any, schema: Any) -> None:
        self._names: list[str] = list(schema.names)
        self._ways = [(_as_numbers(arrow, field.type), _to_text(arrow, field.type)) for field in schema]
        self._errors = errors_of(arrow)

    def rows(self, batch: Any) -> Iterator[tuple[Optional[dict[str, Any]], Optional[str]]]:
        """Yield the columns of each row of a batch, or the reason why Python cannot represent them."""
        columns, problems = [], {}
        for name, array, way in zip(self._names, batch.columns, self._ways):
            try:
                columns.append(self._values(array, *way))
            except self._errors:
                values: list[Any] = []
                for place in range(len(array)):
                    try:
                        values += self._values(array.slice(place, 1), *way)
                    except self._errors as error:
                        values.append(None)
                        problems[place] = f"the column {name!r} cannot be read: {error}"
                columns.append(values)
        for place, row in enumerate(zip(*columns) if columns else [()] * batch.num_rows):
            yield (None, problems[place]) if place in problems else (dict(zip(self._names, row)), None)

    @staticmethod
    def _values(array: Any, numbers: Any, convert: Optional[Convert]) -> list[Any]:
        values: list[Any] = (array if numbers == array.type else array.cast(numbers)).to_pylist()
        return values if convert is None else [None if value is None else convert(value) for value in values]


def _as_numbers(arrow: Any, kind: Any) -> Any:
    """The type to cast to: numbers if Python would round a time or lose its zone."""
    if _is_counted(arrow, kind):
        return arrow.int64()
    if arrow.types.is_dictionary(kind):
        inner = _as_numbers(arrow, kind.value_type)
        return kind if inner == kind.value_type else inner
    return _with_children(arrow, kind, partial(_as_numbers, arrow))


def _with_children(arrow: Any, kind: Any, change: Convert) -> Any:
    """The type with its child types changed."""
    types = arrow.types

    def changed(field: Any) -> Any:
        return field.with_type(change(field.type))

    if types.is_struct(kind):
        made = arrow.struct([changed(field) for field in kind])
        return kind if made == kind else made
    if types.is_map(kind):
        return arrow.map_(changed(kind.key_field), changed(kind.item_field), kind.keys_sorted)
    if not _is_list(arrow, kind) or change(kind.value_type) == kind.value_type:
        return kind
    field = changed(kind.value_field)
    if types.is_fixed_size_list(kind):
        return arrow.list_(field, kind.list_size)
    is_large = types.is_large_list(kind) or getattr(types, "is_large_list_view", _never)(kind)
    return arrow.large_list(field) if is_large else arrow.list_(field)


def _is_counted(arrow: Any, kind: Any) -> bool:
    """Whether Python's equivalent of the type would round it or lose its zone."""
    types = arrow.types
    if types.is_timestamp(kind):
        return kind.unit == "ns" or kind.tz is not None
    return bool(types.is_duration(kind)) or (bool(types.is_time64(kind)) and kind.unit == "ns")


def _is_list(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    names = ("is_list", "is_large_list", "is_fixed_size_list", "is_list_view", "is_large_list_view")
    return any(getattr(types, name, _never)(kind) for name in names)


def _is_extension(arrow: Any, kind: Any) -> bool:
    return isinstance(kind, arrow.lib.BaseExtensionType)


def _never(_: Any) -> bool:
    return False


def _to_text(arrow: Any, kind: Any) -> Optional[Convert]:
    """The function from a value of the `_as_numbers` type to JSON; `None` if the value needs no change."""
    types = arrow.types
    if _is_counted(arrow, kind):
        nanoseconds = _NANOSECONDS[kind.unit]
        if types.is_duration(kind):
            return lambda value: _duration_text(value * nanoseconds)
        if types.is_time64(kind):
            return lambda value: _timestamp_text(value, None).partition("T")[2]
        zone = None if kind.tz is None else _zone(arrow, kind)
        return lambda value: _timestamp_text(value * nanoseconds, zone)
    if types.is_map(kind):
        key, item = _to_text(arrow, kind.key_type), _to_text(arrow, kind.item_type)
        return partial(_pairs, key, item) if key or item else None
    return _of_parts(arrow, kind, _to_text)


def _of_parts(arrow: Any, kind: Any, function_of: Callable[[Any, Any], Optional[Convert]]) -> Optional[Convert]:
    """The function that converts the parts of a nested value, each with the `function_of` its type, if any needs it."""
    if arrow.types.is_dictionary(kind):
        return function_of(arrow, kind.value_type)
    if arrow.types.is_struct(kind):
        parts = {field.name: function_of(arrow, field.type) for field in kind}
        return partial(_struct, parts) if any(parts.values()) else None
    inner = function_of(arrow, kind.value_type) if _is_list(arrow, kind) else None
    return partial(_list, inner) if inner is not None else None


def _zone(arrow: Any, kind: Any) -> dt.tzinfo:
    """The zone of a timestamp; UTC, in which it is stored, if this machine does not know the zone."""
    try:
        zone: dt.tzinfo = arrow.lib.string_to_tzinfo(kind.tz)
    except errors_of(arrow):
        return dt.timezone.utc
    return zone


def _back(arrow: Any, kind: Any) -> Optional[Convert]:
    """The function from a JSON value to one that Arrow accepts for the type; `None` if it needs no change."""
    types = arrow.types
    if types.is_timestamp(kind) or types.is_time(kind):
        return partial(_count, _NANOSECONDS[kind.unit])
    if types.is_duration(kind):
        return partial(_duration, _NANOSECONDS[kind.unit])
    if types.is_date(kind):
        return dt.date.fromisoformat
    if types.is_decimal(kind):
        return Decimal
    views = getattr(types, "is_binary_view", _never)
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind) or views(kind):
        return base64.urlsafe_b64decode
    if types.is_map(kind):
        return partial(_pairs, _back(arrow, kind.key_type), _back(arrow, kind.item_type))
    if _is_extension(arrow, kind):
        own: dict[str, Convert] = {"arrow.uuid": lambda text: UUID(text).bytes, "arrow.bool8": int}
        return own.get(kind.extension_name) or _back(arrow, kind.storage_type)
    return _of_parts(arrow, kind, _back)


def array_of(arrow: Any, values: Sequence[Any], kind: Any) -> Any:
    """Return JSON values as an array of the type. Raises one of `errors_of`."""
    convert = _back(arrow, kind)
    if convert is not None:
        values = [None if value is None else convert(value) for value in values]
    stored = _stored(arrow, kind)
    made = arrow.array(values, stored)
    if _is_extension(arrow, kind):
        return arrow.ExtensionArray.from_storage(kind, made)
    return made if stored == kind else made.cast(kind)


def _stored(arrow: Any, kind: Any) -> Any:
    """The type in which an array is built before it is cast."""
    if _is_extension(arrow, kind):
        return _stored(arrow, kind.storage_type)
    return _with_children(arrow, kind, partial(_stored, arrow))


def sample_of(arrow: Any, kind: Any) -> Any:
    """Return a sample value of the type as JSON. Raises `Unsupported`."""
    types = arrow.types
    if _is_extension(arrow, kind):
        zeros = "00000000-0000-0000-0000-000000000001"
        return zeros if kind.extension_name == "arrow.uuid" else sample_of(arrow, kind.storage_type)
    if types.is_null(kind):
        return None
    if types.is_dictionary(kind):
        return sample_of(arrow, kind.value_type)
    if types.is_struct(kind):
        return {field.name: sample_of(arrow, field.type) for field in kind}
    if types.is_map(kind):
        return [[sample_of(arrow, kind.key_type), sample_of(arrow, kind.item_type)]]
    if _is_list(arrow, kind):
        return [sample_of(arrow, kind.value_type)] * (kind.list_size if types.is_fixed_size_list(kind) else 1)
    if types.is_timestamp(kind):
        return "2020-02-29T12:30:00" + ("" if kind.tz is None else "Z")
    if types.is_fixed_size_binary(kind):
        return base64.urlsafe_b64encode(b"\1" * kind.byte_width).decode()
    plain: tuple[tuple[str, Any], ...] = (
        ("is_boolean", True), ("is_integer", 1), ("is_floating", 1.5), ("is_decimal", "0"), ("is_date", "2020-02-29"),
        ("is_time", "12:30:00"), ("is_duration", "PT1S"), ("is_string", "a"), ("is_large_string", "a"),
        ("is_string_view", "a"), ("is_binary", "YQ=="), ("is_large_binary", "YQ=="), ("is_binary_view", "YQ=="),
    )  # fmt: skip
    for name, value in plain:
        if getattr(types, name, _never)(kind):
            return value
    raise Unsupported(f"{kind} has no form in JSON")


def _struct(parts: dict[str, Optional[Convert]], value: dict[str, Any]) -> dict[str, Any]:
    return {name: _one(convert, value[name]) for name, convert in parts.items()}


def _pairs(key: Optional[Convert], item: Optional[Convert], value: Any) -> list[tuple[Any, Any]]:
    return [(_one(key, name), _one(item, found)) for name, found in value]


def _list(convert: Convert, value: list[Any]) -> list[Any]:
    return [_one(convert, item) for item in value]


def _one(convert: Optional[Convert], value: Any) -> Any:
    return value if convert is None or value is None else convert(value)


def _timestamp_text(nanoseconds: int, zone: Optional[dt.tzinfo]) -> str:
    """The time in the zone; in UTC if the zone's offset has seconds, which ISO texts cannot express."""
    moment = _EPOCH + dt.timedelta(microseconds=nanoseconds // 1000)
    offset = ""
    if zone is not None:
        aware = moment.replace(tzinfo=dt.timezone.utc)
        local = aware.astimezone(zone)
        shift = local.utcoffset() or dt.timedelta()
        moment = local.replace(tzinfo=None) if not shift.seconds % 60 else moment
        offset = local.isoformat()[-6:] if shift and not shift.seconds % 60 else "Z"
    text = moment.isoformat()
    if nanoseconds % 1000:
        text = f"{moment.isoformat(timespec='microseconds')}{nanoseconds % 1000:03d}"
    return text + offset


def _count(unit: int, text: str) -> int:
    """Convert a time, or a date and time, to a count of `unit` nanoseconds since its start."""
    found = _TIME.match(text)
    if found is None:
        raise ValueError(f"{text!r} is not a time")
    date, time, fraction, offset = found.groups()
    moment = dt.datetime.fromisoformat(f"{date or '1970-01-01'}T{time}")
    if offset and offset != "Z":
        sign = -1 if offset[0] == "-" else 1
        moment -= sign * dt.timedelta(hours=int(offset[1:3]), minutes=int(offset[4:6]))
    nanoseconds = (moment - _EPOCH) // _MICROSECOND * 1000 + int((fraction or "").ljust(9, "0"))
    return nanoseconds // unit


def _duration_text(nanoseconds: int) -> str:
    seconds, rest = divmod(abs(nanoseconds), 1_000_000_000)
    parts = ((seconds // 86_400, "D"), (seconds // 3600 % 24, "H"), (seconds // 60 % 60, "M"))
    days, hours, minutes = (f"{count}{letter}" if count else "" for count, letter in parts)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    last = f"{seconds % 60}{fraction}S" if seconds % 60 or rest or not seconds else ""
    time = hours + minutes + last
    return f"{'-' if nanoseconds < 0 else ''}P{days}{'T' if time else ''}{time}"


def _duration(unit: int, text: str) -> int:
    found = _DURATION.match(text)
    if found is None:
        raise ValueError(f"{text!r} is not a duration")
    sign, *parts, fraction = found.groups()
    days, hours, minutes, seconds = (int(part or 0) for part in parts)
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    nanoseconds = total * 1_000_000_000 + int((fraction or "").ljust(9, "0"))
    return (-nanoseconds if sign else nanoseconds) // unit
