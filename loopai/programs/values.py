"""JSON values on their way into and out of the sandbox. Programs see JSON and nothing else."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["NotJSON", "copied", "from_output", "to_input"]

# The library that reads replies gives up at 200, and a reply puts a few levels around an output.
_DEEPEST_OUTPUT = 190

_SCALARS = {bool, float, int, str, type(None)}


class NotJSON(ValueError):
    """A value that JSON cannot carry; the message says why."""


def to_input(value: Any) -> Any:
    """The value as the program is to see it: tuples as lists, keys as strings. Raises `NotJSON`."""
    try:
        return value if _is_plain(value) else copied(value)
    except RecursionError:
        raise NotJSON("Input is nested too deeply") from None


def copied(value: Any) -> Any:
    """A copy with nothing shared inside it, for a program that may change its input. Raises `NotJSON`."""
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
    """Read what a program returned, which the sandbox has written as JSON. Raises `NotJSON`."""
    if not isinstance(text, str):
        raise NotJSON("Output is not JSON: the program replaced what writes it")
    try:
        output = json.loads(text)
    except ValueError as error:
        raise NotJSON(f"Output is not JSON: {error}") from None
    except RecursionError:
        raise NotJSON("Output is nested too deeply") from None
    if text.count("[") + text.count("{") > _DEEPEST_OUTPUT and not _within(output, _DEEPEST_OUTPUT):
        raise NotJSON("Output is nested too deeply")
    return output


def _within(value: Any, levels: int) -> bool:
    """Whether lists and dictionaries in `value` are nested at most `levels` deep."""
    layer = [value]
    for _ in range(levels):
        layer = [
            item
            for outer in layer
            if isinstance(outer, (dict, list))
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not layer:
            return True
    return False
