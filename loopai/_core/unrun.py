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
    # The database context: concurrent operations of one request, and failures to save.
    r"A second operation (was )?started on this context",
    r"An error occurred while (saving the entity changes|updating the entries|saving entities)",
    r"An error occurred while (reading a database value|executing the command definition)",
    r"An error occurred while starting a transaction on the provider connection",
    r"An exception (has been|was) (raised|thrown) that is likely due to (a )?transient failure",
    r"(The )?maximum number of retries \(\d+\) (was )?exceeded while executing database operations",
    r"An attempt was made to use the (context|model)( instance)? while it (is|was) being (configured|created)",
    r"The context cannot be used while the model is being created",
    r"The operation cannot be completed because the DbContext has been disposed",
    r"The \w+ instance has been disposed and can no longer be used",
    r"The instance of entity type '.*' cannot be tracked because another instance",
    r"(The )?database operation (was )?expected to affect \d+ row\(?s?\)?,? but actually affected \d+",
    r"(Store )?update, insert, or delete statement affected an unexpected number of rows",
    r"Attempted to update or delete an entity that does not exist in the store",
    r"An item with the same key has already been added",
    r"Unexpected (entry\.)?EntityState",
    r"Cannot access a (disposed|closed) (context|object|connection|file|stream)",
    r"Collection was modified; enumeration operation may not execute",
    r"Operations that change non-concurrent collections must have exclusive access",
    # The database's connection.
    r"(There is already an open DataReader|An open reader is already) associated with this (Command|Connection)",
    r"Invalid attempt to (call )?\w+.* when (the )?reader is closed",
    r"Invalid operation\. The connection is closed",
    r"(The )?connection (is|was|has been) (already|not|busy|broken|closed|disabled|in state|reset|terminated)\b",
    r"(The )?connection (already open|does not support MultipleActiveResultSets|must be open|pool has been exhausted)",
    r"This \w*(Connection is already in use|Transaction has completed)",
    r"\w*Connection does not support (parallel|nested) transactions",
    r"\w*(Execute\w*|Transaction) (requires an open and available|can only be called when the) connection",
    r"(Begin)?Execute\w* requires the command to have a transaction",
    r"(Begin)?Execute\w*: Connection(State| property)",
    r"The (transaction operation cannot be performed|transaction object is not associated with the same connection)",
    r"The (ConnectionString property has not been initialized|underlying provider failed on)",
    r"A (transport|network)-(level|related) .*error (has )?occurred",
    r"A connection was successfully established with the server, but then an error occurred",
    r"A severe error occurred on the current command",
    r"Internal (connection fatal error|\.net framework data provider error)",
    r"New request is not allowed to start because it should come with valid transaction descriptor",
    r"The request failed to run because the batch is aborted",
    r"A command is already in progress",
    r"Exception while (reading from stream|writing to stream|connecting)",
    r"Failed to connect to \S+:\d+",
    r"Timeout (during reading attempt|while getting a connection from (the )?pool)",
    r"(Connect(ion)? )?Timeout expired\.",
    r"(The Command|Execution) Timeout Expired",
    r"The timeout period elapsed prior to obtaining a connection from the pool",
    r"Unable to connect to any of the specified MySQL hosts",
    # The database itself, by its own words or its codes.
    r"Transaction (ID \d+ |\(Process ID \d+\) )?was deadlocked",
    r"Deadlock (detected|found)",
    r"Lock (request time out period|wait timeout) exceeded",
    r"Snapshot isolation transaction aborted due to update conflict",
    r"The current transaction cannot be committed",
    r"(?-i:(08|25|40|53|55|57)[0-9A-Z]{3}: |23505: |ORA-\d{5}: )",
    r"(Could not serialize access|Current transaction is aborted|Canceling statement due to|Could not obtain lock)",
    r"(Sorry, too many clients already|Too many connections|Remaining connection slots are reserved)",
    r"SQLite Error \d+: ",
    r"Violation of (PRIMARY|UNIQUE) KEY constraint",
    r"(Cannot insert duplicate key row in object|Duplicate (key value violates unique constraint|entry '.*' for key))",
    r"(Database '.*' on server '.*'|The service) is (not currently available|currently (busy|unavailable))",
)
"""How the messages of such items begin: what Entity Framework, SqlClient, Npgsql, SQLite and MySQL say of contexts,
connections and transactions that several use at once. Every other text is the item's own failure."""

_WRAPPED = r"(One or more errors occurred\. \()?((\w+\.)*\w*Exception( \(0x[0-9A-F]+\))?: )?"
"""What .NET puts before a message: the exception's type, or that it was one of several tasks."""

_UNRUN = re.compile(f"{_WRAPPED}({'|'.join(_TEXTS)})", re.IGNORECASE)

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
