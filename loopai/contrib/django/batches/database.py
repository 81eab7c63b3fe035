"""The database of a run: stale connections, temporary failures, and errors of single rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Optional, TypeVar

from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connections,
)

from ...._core.randomness import private_random

T = TypeVar("T")

IDLE_SECONDS = 30.0
"""Seconds without a query after which a connection is checked before use: servers and proxies drop idle ones."""

TRIES = 8
"""Attempts if the database fails temporarily; with their pauses, about ten seconds."""

LONGEST_TRYING = 60.0
"""Seconds after which there is no further attempt: a single attempt may wait that long for a lock."""

_PASSING_STATES = {"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "53300"}
"""PostgreSQL: serialisation failure, deadlock, lock not available, shutdowns, starting up, too many connections."""

_PASSING_NUMBERS = {1040, 1053, 1158, 1159, 1160, 1161, 1205, 1213, 1927, 2002, 2003, 2006, 2013, 2055, 4031}
"""MySQL and MariaDB: lock timeout, deadlock, shutdown, connections lost, killed, refused or too many."""

_ROW_NUMBERS = {1264, 1265, 1292, 1366, 1406, 1411, 1644, 3140, 4025}
"""MySQL and MariaDB: values out of range or malformed, and what a trigger signals."""


def is_passing(error: BaseException, using: str) -> bool:
    """Return whether the same work may succeed on a retry: deadlock, lock timeout, lost connection."""
    if not isinstance(error, DatabaseError):
        return False
    state, number, cause = _codes(error)
    if state is not None:
        return state in _PASSING_STATES or state.startswith("08")
    if number is not None and number in _PASSING_NUMBERS:
        return True
    if getattr(cause, "sqlite_errorcode", 0) & 0xFF in {5, 6} or "database is locked" in str(error):
        return True
    if not isinstance(error, (OperationalError, InterfaceError)):
        return False
    connection: Any = connections[using]
    return connection.connection is None or not connection.is_usable()


def is_of_a_row(error: BaseException) -> bool:
    """Return whether the database, or its driver, refuses a value."""
    if isinstance(error, (DataError, IntegrityError, ValueError, TypeError, AttributeError, ArithmeticError)):
        return True
    if not isinstance(error, DatabaseError):
        return False
    state, number, cause = _codes(error)
    if state is not None:
        return state[:2] in {"22", "23", "44", "P0"}
    if number is not None:
        return number in _ROW_NUMBERS
    # Drivers refuse a type that they do not know by themselves, and have no code for it.
    return isinstance(error, (ProgrammingError, InterfaceError)) and not hasattr(cause, "sqlite_errorcode")


def missing_table(error: BaseException) -> bool:
    """Return whether the database lacks a table: migrations were not run."""
    state, number, _ = _codes(error)
    return state == "42P01" or number == 1146 or "no such table" in str(error)


def _codes(error: BaseException) -> tuple[Optional[str], Optional[int], Optional[BaseException]]:
    """PostgreSQL's SQLSTATE, MySQL's number, and the driver's error."""
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    number = error.args[0] if error.args and type(error.args[0]) is int else None
    # Some drivers of MySQL give both, and many a number has the state HY000.
    return (None if number else state), number or None, cause


class Database:
    """The calling thread's connection to a database, by alias."""

    def __init__(
        self,
        using: str,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.using = using
        self._clock = clock
        self._sleep = sleep
        self._used = clock()

    @property
    def connection(self) -> Any:
        """Django's connection."""
        return connections[self.using]

    def freshen(self) -> None:
        """Close a connection that was dropped during a pause; Django opens the next."""
        now, connection = self._clock(), self.connection
        idle = now - self._used > IDLE_SECONDS and connection.connection is not None
        if idle and not connection.in_atomic_block and not connection.is_usable():
            connection.close()
        self._used = now

    def attempt(self, work: Callable[[], T], arrived: Callable[[], Optional[T]] = lambda: None) -> T:
        """Do the work, and retry it after temporary failures; return its result.

        `arrived` is called before a retry: a result from it means that the work reached the database, although the
        reply was lost. Within a caller's transaction nothing is retried, because the transaction is lost. Raises the
        last error.
        """
        self.freshen()
        if self.connection.in_atomic_block:
            return work()
        started = self._clock()
        for number in range(TRIES):
            try:
                done = arrived() if number else None
                return work() if done is None else done
            except DatabaseError as error:
                late = number > 0 and self._clock() - started > LONGEST_TRYING
                if number == TRIES - 1 or late or not is_passing(error, self.using):
                    raise
            self._drop_if_lost()
            self._sleep(min(4.0, 0.1 * 2**number) * (0.5 + private_random.random() / 2))
        raise AssertionError("unreachable: the last try returns or raises")

    def _drop_if_lost(self) -> None:
        connection = self.connection
        if connection.connection is not None and not connection.is_usable():
            connection.close()
