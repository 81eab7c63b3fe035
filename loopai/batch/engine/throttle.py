"""The speed of a run: requests in flight, pauses and chunk sizes. Arithmetic only; the caller passes the time."""

from __future__ import annotations

from ..._core.unrun import REQUEST_SECONDS

LIMITER_PAUSE = 60.0
"""Seconds to pause if a rate-limited server does not say how long: its limiter counts per minute."""

LONGEST_PAUSE = 3600.0
"""Longest pause in seconds; the limiter's longest window is an hour."""

LARGEST_CHUNK = 4_000_000
"""Bytes that growing chunks aim at: far below the 30,000,000 that the server reads."""

LONGEST_REQUEST = 40.0
"""Target duration of a request in seconds, if the server limits requests and runs rows one at a time."""

MOST_ROWS = 10_000
"""Most rows of one chunk, however small: the reply has to arrive within one timeout."""


class Throttle:
    """Additive increase, multiplicative decrease between 1 and `most` requests in flight; one pause for all.

    `rows` is the current size of a chunk, `seconds` its target duration if latency decides. Times are seconds of the
    scheduler's clock.
    """

    def __init__(self, most: int, rows: int) -> None:
        self.most = most
        self.rows = rows
        self.paused_until = 0.0
        self.seconds = REQUEST_SECONDS
        self._limit = float(most)
        self._cut_at = float("-inf")
        self._bytes_a_row = 0.0

    @property
    def limit(self) -> int:
        """Requests that may be in progress now."""
        return int(self._limit)

    def succeeded(self) -> None:
        """Record a reply: after as many as the current limit, one more request may be in flight."""
        self._limit = min(float(self.most), self._limit + 1.0 / self._limit)

    def failed(self, sent_at: float, now: float) -> None:
        """Record a failure: halve the limit, once for all requests that were in flight together."""
        if sent_at > self._cut_at:
            self._limit = max(1.0, self._limit / 2.0)
            self._cut_at = now

    def pause(self, seconds: float, now: float) -> None:
        """Pause for `seconds`."""
        self.paused_until = max(self.paused_until, now + min(seconds, LONGEST_PAUSE))

    def refused(self, sent_at: float, now: float) -> None:
        """Double the chunk size, once for all requests refused together: the limiter counts requests, not rows."""
        if sent_at > self._cut_at:
            self.rows = min(self.rows * 2, max(MOST_ROWS, self.rows))
            self.seconds = min(self.seconds * 2, LONGEST_REQUEST)
        self.failed(sent_at, now)

    def weigh(self, size: int, rows: int) -> None:
        """Record a chunk's size in bytes, which limits the next one."""
        self._bytes_a_row = max(size / rows, self._bytes_a_row * 0.9)

    def chunk_rows(self) -> int:
        """Rows for the next chunk."""
        if not self._bytes_a_row:
            return self.rows
        return max(1, min(self.rows, int(LARGEST_CHUNK / self._bytes_a_row)))
