"""Backoff arithmetic, Retry-After, and which failures may be retried."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Optional

FIRST_PAUSE = 0.5
"""Seconds before the first retry, without jitter; the earlier SDKs of all three languages use the same."""

LONGEST_PAUSE = 8.0
"""Longest backoff in seconds: four such pauses are enough for a server to restart."""

LONGEST_RETRY_AFTER = 300.0
"""Longest Retry-After, in seconds, that a call without deadline obeys; beyond it the caller gets the error."""

PASSING_STATUSES = frozenset({408, 429, 502, 503, 504})
"""Statuses that a retry may resolve."""

_SECONDS = re.compile(r"\d{1,15}(\.\d{1,9})?")


def backoff(attempt: int, random: float) -> float:
    """Seconds to pause after the `attempt`-th attempt (from 1): doubling from 0.5, jittered down to its half.

    `random` is uniform in [0, 1).
    """
    # The exponent is limited: with unlimited retries 2**attempt would not fit a float.
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt - 1, 16))
    return pause * (1.0 - 0.5 * random)


def retry_after(headers: Mapping[str, str], now: float) -> Optional[float]:
    """Return the seconds of `Retry-After` (a number or date) or `X-Rate-Limit-Reset`; `None` if there is neither.

    `now` is the time of day in seconds since the epoch. Never negative.
    """
    asked = headers.get("retry-after", "").strip()
    if asked:
        if _SECONDS.fullmatch(asked):
            return float(asked)
        return _until(_http_date(asked), now)
    if headers.get("x-rate-limit-remaining", "").strip() == "0":
        return _until(_iso_date(headers.get("x-rate-limit-reset", "").strip()), now)
    return None


def _until(moment: Optional[datetime], now: float) -> Optional[float]:
    return None if moment is None else max(0.0, math.ceil(moment.timestamp() - now))


def _http_date(text: str) -> Optional[datetime]:
    try:
        return _aware(parsedate_to_datetime(text))
    except (TypeError, ValueError, IndexError, OverflowError):  # what email.utils raises for invalid dates
        return None


def _iso_date(text: str) -> Optional[datetime]:
    # Python 3.9 reads neither Z nor a seventh digit, both of which the limiter writes.
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z?", text)
    try:
        return _aware(datetime.fromisoformat(match[1])) if match else None
    except ValueError:
        return None


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
