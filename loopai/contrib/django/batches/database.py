"""The database connection of a run: used between requests, so it may have gone stale. No rows are known here."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.db import connections

IDLE_SECONDS = 30.0
"""Seconds without a query after which a connection is looked at before use: servers and proxies drop idle ones."""


class Database:
    """The calling thread's connection to a database by its alias."""

    def __init__(self, using: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.using = using
        self._clock = clock
        self._used = clock()

    def freshen(self) -> None:
        """Close a connection that was dropped during a pause; Django opens the next."""
        now = self._clock()
        connection: Any = connections[self.using]
        idle = now - self._used > IDLE_SECONDS and connection.connection is not None
        if idle and not connection.in_atomic_block and not connection.is_usable():
            connection.close()
        self._used = now
