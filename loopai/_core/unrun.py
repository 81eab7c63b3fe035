"""Distinguish items that a server failed to run from items that failed, and adapt to that server's concurrency.

The published server runs the items of a request on one database context. If several run at the same time, most of
them fail: they did not run, or ran and were not recorded.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterable, Sequence
from typing import Optional

logger = logging.getLogger("loopai")

REQUEST_SECONDS = 5.0
"""Target duration of a request in seconds, if its items run one at a time: the measured latency decides its size."""

CONVICTED_AFTER = 2
"""Failures of an item that runs alone, while other items succeed, after which it is not sent again."""

_TEXTS = (
    # The database context: several operations of one request.
    r"A second operation (was )?started on this context",
    r"An error occurred while saving the entity changes",
    r"An exception has been raised that is likely due to (a )?transient failure",
    r"An attempt was made to use the (context|model)( instance)? while it is being (configured|created)",
    r"The instance of entity type '.*' cannot be tracked because another instance",
    r"The database operation was expected to affect \d+ row\(?s?\)?, but actually affected \d+",
    r"Cannot access a disposed (context|object)",
    r"Collection was modified; enumeration operation may not execute",
    r"Operations that change non-concurrent collections must have exclusive access",
    # The database's connection.
    r"There is already an open DataReader associated with this (Command|Connection)",
    r"Invalid attempt to call \w+ when reader is closed",
    r"Invalid operation\. The connection is closed",
    r"The connection (was not closed|is already in a transaction|does not support MultipleActiveResultSets)",
    r"(BeginExecute|Execute)\w* requires an open and available Connection",
    r"(BeginExecute|Execute)\w*: Connection(State| property)",
    r"A (transport|network)-(level|related) .*error (has )?occurred",
    r"A command is already in progress",
    r"(Connection )?Timeout expired\. +The timeout period elapsed",
    r"Execution Timeout Expired",
    r"The timeout period elapsed prior to obtaining a connection from the pool",
    # The database itself.
    r"Transaction \(Process ID \d+\) was deadlocked",
    r"SQLite Error \d+: '?(database|database table|cannot|disk I/O)",
    r"Violation of (PRIMARY|UNIQUE) KEY constraint",
)
"""How the messages of such items begin. Any other text is a failure of the item itself."""

_UNRUN = re.compile("|".join(_TEXTS), re.IGNORECASE)

_MISSING = re.compile(
    r"(Task with ID \S+|Program artifact version -?\d+ for task \S+) not found\.?\s*\Z|Task not found", re.IGNORECASE
)


def is_unrun(success: object, execution_id: object, code: object, message: object) -> bool:
    """Return whether an item's result says that the server failed to run it, or to record that it ran."""
    if success or execution_id is not None or code is not None or not isinstance(message, str):
        return False
    return _UNRUN.match(message.lstrip()) is not None


def names_missing(success: object, execution_id: object, message: object) -> bool:
    """Return whether an item's result says that the task, or this version of its program, does not exist."""
    if success or execution_id is not None or not isinstance(message, str):
        return False
    return _MISSING.match(message) is not None


def left_alone(message: Optional[str], why: str) -> str:
    """Return the error of an item that the server failed to run and that is not sent again."""
    return f"the server failed to run it ({message}); it may have run without a record, and {why}"


class ItemConcurrency:
    """How many items of a request a server can run at a time, as a client has learned. Copies of a client share it.

    It drops to one at the first item that the server failed to run, and stays there. From then on the latency of items
    decides the size of requests. Thread-safe.
    """

    def __init__(self, base_url: str) -> None:
        self.one = False
        self._base_url = base_url
        self._latency_ms: Optional[float] = None
        self._lock = threading.Lock()

    def allowed(self, wanted: int) -> int:
        """Return how many of a request's items may run at a time, if so many are wanted."""
        return 1 if self.one else wanted

    def failed(self, message: str) -> None:
        """Record that the server failed to run an item."""
        with self._lock:
            first, self.one = not self.one, True
        if first:
            logger.warning(
                "%s fails to run items of a request at the same time (%s). This client sends them again and lets one "
                "item of a request run at a time from now on. Set max_concurrency=1 to start that way; "
                "raise max_in_flight to have more requests in flight instead",
                self._base_url,
                message[:200],
            )

    def ran(self, latencies_ms: Iterable[Optional[float]]) -> None:
        """Record the latencies of items that ran one at a time, in milliseconds."""
        known = [each for each in latencies_ms if each is not None]
        if known:
            mean = sum(known) / len(known)
            with self._lock:
                self._latency_ms = mean if self._latency_ms is None else (self._latency_ms + mean) / 2

    def most_items(self, seconds: float = REQUEST_SECONDS) -> Optional[int]:
        """Return how many items that run one at a time take so many seconds; `None` if no latency is known."""
        if not self._latency_ms:
            return None
        return max(1, int(seconds * 1000 / self._latency_ms))


def suspicions(unrun: Sequence[int], ran: Sequence[int], before: int, *, others_ran: bool) -> dict[int, int]:
    """Return how often each item that did not run has failed because of itself, if items run one at a time.

    `unrun` and `ran` are positions in one reply, `before` is the count so far, `others_ran` whether others have run
    since these first failed. A failure counts if a later item ran, or if the item was alone.
    """
    last = max(ran, default=-1)
    if ran:
        return {place: before + (place < last) for place in unrun}
    alone = others_ran and (len(unrun) == 1 or before > 0)
    return dict.fromkeys(unrun, before + alone)
