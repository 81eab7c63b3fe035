"""JSON values: when two are the same, and how messages show them."""

from __future__ import annotations

import json
from typing import Any


def same(value: Any, other: Any) -> bool:
    """Return whether two JSON values are the same; True is not 1, and 1 is 1.0."""
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(same, value, other))
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(same(value[key], other[key]) for key in value)
    return bool(value == other)


def shown(value: Any) -> str:
    """Return a JSON value for a message, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:119] + "…"
