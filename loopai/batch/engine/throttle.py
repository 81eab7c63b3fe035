"""How fast a run goes: requests in flight, pauses, and the size of chunks. Arithmetic only; the clock is handed in."""

from __future__ import annotations

from ..._core.unrun import REQUEST_SECONDS

LIMITER_PAUSE = 60.0
"""Seconds a run pauses where a rate limited server does not say how long: its limiter counts by the minute."""

LONGEST_PAUSE = 3600.0
"""Seconds of one pause that are obeyed; the limiter's longest window is an hour."""

LARGEST_CHUNK = 4_000_000
"""Bytes of one request that chunks grow towards: far below the 30,000,000 that the server reads."""

LONGEST_REQUEST = 40.0
"""Seconds that a request is to last at most where the server limits requests and runs rows one at a time."""

MOST_ROWS = 10_000
"""Rows of one chunk, however small they are: the reply has to come within one timeout."""


class Throttle:
    """Additive increase, multiplicative decrease between 1 and `most` requests in flight; one pause for all.

    `rows` is the present size of a chunk, `seconds` the time that it is to last where latency decides. Times are
    seconds of the scheduler's clock.
    """

    def __init__(self, most: int, rows: int) -> None:
        self.most = most
        self.rows = rows
        self.paused_until = 0.0
        self.limited = 0
        self.seconds = REQUEST_SECONDS
        self._limit = float(most)
        self._cut_at = float("-inf")
        self._bytes_a_row = 0.0

    @property
    def limit(self) -> int:
        """Requests that may be in progress now."""
        return int(self._limit)

    def succeeded(self) -> None:
        """A request was answered: one more may be in progress after as many of these as there are now."""
        self._limit = min(float(self.most), self._limit + 1.0 / self._limit)

    def failed(self, sent_at: float, now: float) -> None:
        """A request failed: half as many from now on, once for all that were in progress together."""
        if sent_at > self._cut_at:
            self._limit = max(1.0, self._limit / 2.0)
            self._cut_at = now

    def pause(self, seconds: float, now: float) -> float:
        """Nothing is sent for so many seconds; return when the run continues."""
        self.paused_until = max(self.paused_until, now + min(seconds, LONGEST_PAUSE))
        return self.paused_until

    def refused(self, sent_at: float, now: float) -> None:
        """Requests are counted, rows are not: chunks get twice as large, once for all that were refused together."""
        if sent_at > self._cut_at:
            self.limited += 1
            self.rows = min(self.rows * 2, max(MOST_ROWS, self.rows))
            self.seconds = min(self.seconds * 2, LONGEST_REQUEST)
        self.failed(sent_at, now)

    def weigh(self, size: int, rows: int) -> None:
        """Take note of a chunk's bytes, by which the size of the next is bounded."""
        self._bytes_a_row = max(size / rows, self._bytes_a_row * 0.9)

    def chunk_rows(self) -> int:
        """Rows for the next chunk."""
        if not self._bytes_a_row:
            return self.rows
        return max(1, min(self.rows, int(LARGEST_CHUNK / self._bytes_a_row)))
