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
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    connections,
)

from ...._core.randomness import private_random
from ....exceptions import LoopaiException

T = TypeVar("T")

IDLE_SECONDS = 30.0
"""Seconds without a query after which a connection is checked before use: servers and proxies drop idle ones."""

TRIES = 8
"""Attempts if the database fails temporarily; with their pauses, about ten seconds."""

LONGEST_TRYING = 60.0
"""Seconds after which there is no further attempt: a single attempt may wait that long for a lock."""

_PASSING_STATES = {
    "25P03", "40001", "40P01", "53300", "55P03", "57014", "57P01", "57P02", "57P03", "57P05",
}  # fmt: skip
"""PostgreSQL: serialisation failure, deadlock, lock not available, timeouts, shutdowns, too many connections."""

_PASSING_NUMBERS = {
    1020, 1040, 1047, 1053, 1158, 1159, 1160, 1161, 1205, 1213, 1317, 1927, 1969, 2002, 2003, 2006, 2013, 2055,
    3024, 3572, 4031,
}  # fmt: skip
"""MySQL and MariaDB: locks, deadlocks, snapshots that are too old, timeouts, connections lost, refused or too many."""

_WHOLE_CLASSES = {
    "01", "02", "03", "08", "0A", "25", "26", "28", "2D", "34", "3D", "3F", "40", "42", "53", "55", "57", "58", "72",
    "F0", "HV", "XX",
}  # fmt: skip
"""PostgreSQL's error classes that a row's value cannot cause; a trigger may raise any other."""

_ROW_LEVEL_SECURITY = "42501"
"""PostgreSQL: insufficient privilege, which may concern a single row."""

_ROW_NUMBERS = {
    1048, 1118, 1138, 1153, 1263, 1264, 1265, 1292, 1365, 1366, 1406, 1411, 1441, 1525, 1644, 1690, 3140, 3141, 3150,
    3157, 3819, 4025,
}  # fmt: skip
"""MySQL and MariaDB: values out of range, too large or malformed, and errors signalled by a trigger."""

_MALFORMED_EXPRESSION = 1139
"""MySQL and MariaDB: an invalid regular expression."""

_OF_TRIGGERS = 10_000
"""MySQL and MariaDB: from this number on, errors are defined by triggers."""


def is_passing(error: BaseException, using: str) -> bool:
    """Return whether the same work may succeed on a retry: deadlock, lock timeout, lost connection."""
    if not isinstance(error, DatabaseError):
        return False
    state, number, cause = _codes(error)
    if state is not None:
        return state in _PASSING_STATES or state.startswith("08")
    if number is not None and number in _PASSING_NUMBERS:
        return True
    locked = "database is locked" in str(error) or "table is locked" in str(error)
    if getattr(cause, "sqlite_errorcode", 0) & 0xFF in {5, 6} or locked:
        return True
    if not isinstance(error, (OperationalError, InterfaceError)):
        return False
    connection: Any = connections[using]
    if number is None and cause is not None and connection.vendor in {"postgresql", "mysql"}:
        return True  # errors detected by the driver have no code: its connection is gone, and Django may open another
    return connection.connection is None or not connection.is_usable()


def is_of_a_row(error: BaseException) -> bool:
    """Return whether the database, or its driver, refuses a value."""
    if isinstance(error, (DataError, IntegrityError, ValueError, TypeError, AttributeError, ArithmeticError)):
        return True
    if not isinstance(error, DatabaseError):
        return False
    state, number, cause = _codes(error)
    if state is not None:
        of_row = state == _ROW_LEVEL_SECURITY and "row-level security" in str(error)
        return of_row or state[:2] not in _WHOLE_CLASSES
    if number is not None:
        return number in _ROW_NUMBERS or number >= _OF_TRIGGERS
    # A driver itself refuses a type that it does not know, without an error code.
    sqlite = type(cause).__module__.startswith("sqlite3")
    refused = isinstance(error, ProgrammingError) or (isinstance(error, InterfaceError) and sqlite)
    return refused and not hasattr(cause, "sqlite_errorcode")


def is_of_query(error: BaseException) -> bool:
    """Return whether the database rejects the query itself: an unsupported lookup, a malformed expression."""
    _, number, cause = _codes(error)
    wrong_sql = number == _MALFORMED_EXPRESSION or getattr(cause, "sqlite_errorcode", None) == 1
    return isinstance(error, (DataError, ProgrammingError, NotSupportedError)) or wrong_sql


def is_of_code(error: BaseException) -> bool:
    """Return whether a field's own code raised it, perhaps for a single row: for example, it cannot decrypt a value."""
    return not isinstance(error, (DatabaseError, LoopaiException))


def told(error: BaseException) -> str:
    """Return the message of the database or field, without an error number."""
    _, number, _ = _codes(error)
    text = str(error.args[1] if number is not None and len(error.args) > 1 else error).strip()
    return text or type(error).__name__


def not_migrated(error: BaseException) -> bool:
    """Return whether a table or column is missing because migrations were not run."""
    state, number, _ = _codes(error)
    if state is not None or number is not None:
        return state in {"42P01", "42703"} or number in {1054, 1146}
    return any(text in str(error) for text in ("no such table", "no such column", "has no column named"))


def _codes(error: BaseException) -> tuple[Optional[str], Optional[int], Optional[BaseException]]:
    """Return PostgreSQL's SQLSTATE, MySQL's error number, and the driver's error."""
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    number = error.args[0] if error.args and type(error.args[0]) is int else None
    # Some MySQL drivers provide both, and many error numbers have the state HY000.
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
        """Close a connection that was dropped during a pause; Django opens a new one."""
        now = self._clock()
        if now - self._used > IDLE_SECONDS and not self.connection.in_atomic_block:
            self._drop_if_lost()
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
