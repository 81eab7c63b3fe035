"""Convert JSON values into and out of the sandbox. Programs only see JSON."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["NotJSON", "copied", "from_output", "to_input"]

DEEPEST_OUTPUT = 64
"""Most levels of nesting of an output: the default limit of JSON readers such as .NET's."""

_TOO_DEEP = f"Output is nested too deeply: {DEEPEST_OUTPUT} levels are the most"
_decode = json.JSONDecoder().raw_decode
_SCALARS = {bool, float, int, str, type(None)}


class NotJSON(ValueError):
    """A value that JSON cannot represent; the message says why."""


def to_input(value: Any) -> Any:
    """Return the value as the program sees it: tuples as lists, keys as strings. Raises `NotJSON`."""
    try:
        return value if _is_plain(value) else copied(value)
    except RecursionError:
        raise NotJSON("Input is nested too deeply") from None


def copied(value: Any) -> Any:
    """Return a deep copy, for a program that may change its input. Raises `NotJSON`."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise NotJSON(f"Input is not JSON: {error}") from None
    except RecursionError:
        raise NotJSON("Input is nested too deeply") from None


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is dict:
        return all(type(key) is str and (type(item) in _SCALARS or _is_plain(item)) for key, item in value.items())
    return kind is list and all(type(item) in _SCALARS or _is_plain(item) for item in value)


def from_output(text: object) -> Any:
    """Read a program's result, which the sandbox has written as JSON. Raises `NotJSON`."""
    if not isinstance(text, str):
        raise NotJSON("Output is not JSON: the program replaced what writes it")
    try:
        value, end = _decode(text)
        if end != len(text):
            value = json.loads(text)
    except ValueError as error:
        raise NotJSON(f"Output is not JSON: {error}") from None
    except RecursionError:
        raise NotJSON(_TOO_DEEP) from None
    if text.count("[") + text.count("{") > DEEPEST_OUTPUT:
        _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(DEEPEST_OUTPUT):
        level = [
            item
            for found in level
            if isinstance(found, (dict, list))
            for item in (found.values() if isinstance(found, dict) else found)
            if isinstance(item, (dict, list))
        ]
        if not level:
            return
    raise NotJSON(_TOO_DEEP)
