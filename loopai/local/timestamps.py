"""Timestamps as stored (100 ns ticks since 1970, UTC) and as sent (ISO 8601)."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from functools import lru_cache

TICKS_A_SECOND = 10_000_000
"""The contract's dates have up to seven digits after the second."""


def now() -> int:
    """This moment."""
    return time.time_ns() // 100


def days_ago(days: float) -> int:
    """Return the time `days` days ago."""
    return now() - int(days * 86_400 * TICKS_A_SECOND)


def iso8601(moment: int) -> str:
    """ISO 8601 in UTC, ending in `Z`; trailing zeros of the fraction are left out, and so is a fraction of zero."""
    seconds, fraction = divmod(moment, TICKS_A_SECOND)
    text = _second(seconds)
    return f"{text}.{fraction:07d}".rstrip("0").rstrip(".") + "Z" if fraction else f"{text}Z"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
