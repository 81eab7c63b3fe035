"""Rate limits: requests per minute for each client address, method and path, as the real server intends."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from starlette.responses import Response

WINDOW_SECONDS = 60
REFUSAL = b'{ "code": "RATE_LIMIT_EXCEEDED", "message": "Rate limit exceeded. Please try again later." }'
"""The real server's configured message."""
MOST_WINDOWS = 10_000
"""Number of windows from which expired ones are removed."""
MOST_WINDOWS_AT_ALL = 100_000
"""Most windows; above it the oldest are removed, expired or not."""
CLEARING_SECONDS = 1.0
"""Minimum seconds between two removals."""
LONGEST_PATH = 200
"""Characters of a path that are compared."""


class RateLimiter:
    """Fixed windows that start with the first counted request. For one event loop."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.time) -> None:
        self._limit = limit
        self._clock = clock
        self._windows: dict[tuple[str, str, str], tuple[float, int]] = {}
        self._cleared = -CLEARING_SECONDS

    def used_up(self, client: str, method: str, path: str) -> int | None:
        """Return the seconds until a request is admitted; `None` if one is now. Does not count a request."""
        began, count = self._windows.get(_key(client, method, path), (0.0, 0))
        left = began + WINDOW_SECONDS - self._clock()
        return max(1, round(left)) if count >= self._limit and left > 0 else None

    def admit(self, client: str, method: str, path: str) -> tuple[Response | None, dict[str, str]]:
        """Return the refusal if the limit is reached, and otherwise the headers for the reply."""
        now = self._clock()
        key = _key(client, method, path)
        began, count = self._windows.get(key, (now, 0))
        if now >= began + WINDOW_SECONDS:
            began, count = now, 0
        if len(self._windows) >= MOST_WINDOWS and now >= self._cleared + CLEARING_SECONDS:
            self._cleared = now
            self._windows = {key: kept for key, kept in self._windows.items() if now < kept[0] + WINDOW_SECONDS}
        if len(self._windows) >= MOST_WINDOWS_AT_ALL:
            del self._windows[next(iter(self._windows))]
        left = began + WINDOW_SECONDS - now
        if count >= self._limit:
            headers = {"Retry-After": str(max(1, round(left)))}
            return Response(REFUSAL, 429, headers, "application/json"), {}
        self._windows[key] = (began, count + 1)
        reset = datetime.fromtimestamp(began, timezone.utc) + timedelta(seconds=WINDOW_SECONDS)
        return None, {
            "X-Rate-Limit-Limit": f"{WINDOW_SECONDS // 60}m",
            "X-Rate-Limit-Remaining": str(self._limit - count - 1),
            "X-Rate-Limit-Reset": reset.strftime("%Y-%m-%dT%H:%M:%S.%f0Z"),
        }


def _key(client: str, method: str, path: str) -> tuple[str, str, str]:
    return client[:LONGEST_PATH], method[:LONGEST_PATH], path[:LONGEST_PATH].lower()
