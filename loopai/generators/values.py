"""JSON values: equality, and how messages show them."""

from __future__ import annotations

import json
import math
from typing import Any


def same(value: Any, other: Any) -> bool:
    """Return whether two JSON values are equal; True is not 1, but 1 is 1.0."""
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(same, value, other))
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(same(value[key], other[key]) for key in value)
    if isinstance(value, float) and isinstance(other, (int, float)):
        # 0.1 * 3 and 0.3 are the same number to every decimal that anyone writes.
        return math.isclose(value, other, rel_tol=1e-12, abs_tol=1e-12)
    return bool(value == other)


def shown(value: Any) -> str:
    """Return a JSON value for a message, shortened if it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:119] + "…"
