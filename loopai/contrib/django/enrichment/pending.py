"""Process entries outside the save, for `loopai_batch --pending` and tasks of Celery or `django.tasks`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, Optional

from django.db import router
from django.db.models import QuerySet

from ....batch.engine.stopping import Stop
from ....exceptions import ConfigurationError, LoopaiException
from ..batches.database import Database
from ..batches.leases import LEASE_SECONDS, owner_name
from ..clients import get_client
from ..models import PendingRow
from . import outbox
from .carrying import Carried, carry, known_tasks
from .declarations import Declaration, declared, named
from .saving import notify_of_many

logger = logging.getLogger("loopai")

FAILURES_SECONDS = 60.0
"""Seconds between checks of failed rows: they may have been deleted, or their task may have a new program."""


class PendingWork:
    """Processes the entries of a database, of all declarations or of one, until none is due."""

    def __init__(self, using: str, name: Optional[str], stop: Stop, clock: Callable[[], float] = monotonic) -> None:
        self._using = using
        self._name = name
        self._stop = stop
        self._clock = clock
        self._failures_at = float("-inf")

    def declarations(self) -> list[Declaration]:
        """Return the declarations to process. Raises `ConfigurationError`."""
        if self._name is None:
            return declared()
        return [named(self._name)]

    def once(self) -> Carried:
        """Process the entries that are due."""
        total = Carried()
        self._look_at_failures()
        for declaration in self.declarations():
            client = get_client(declaration.alias)
            while not self._stop.requested:
                owner = owner_name()
                taken = Database(self._using).attempt(
                    lambda owner=owner, one=declaration: outbox.take(self._using, one, owner, LEASE_SECONDS)  # type: ignore[misc]  # of this turn
                )
                if not taken:
                    break
                carried = carry(declaration, self._using, owner, taken, client, self._stop)
                total.add(carried)
                if carried.error is not None:
                    break
        return total

    def retry_failed(self) -> int:
        """Make all failed entries due again; return their number."""
        return sum(outbox.retry_failed(self._using, declaration) for declaration in self.declarations())

    def _look_at_failures(self) -> None:
        if self._clock() < self._failures_at + FAILURES_SECONDS:
            return
        self._failures_at = self._clock()
        failed = outbox.entries(self._using).filter(state=PendingRow.State.FAILED)
        with_failures = set(failed.values_list("declaration", flat=True).distinct())
        for declaration in self.declarations():
            known_tasks.forget(declaration)
            if declaration.name not in with_failures:
                continue
            outbox.remove_gone(self._using, declaration)
            try:
                _, version = known_tasks.get(declaration, get_client(declaration.alias))
            except (LoopaiException, ConfigurationError) as error:
                logger.warning("enrich %s: the task cannot be looked up: %s", declaration.name, error)
                continue
            version = declaration.version or version
            if version is not None:
                outbox.retry_failed(self._using, declaration, other_than=version)


def carry_out(using: str) -> Carried:
    """Process the entries that are due, for a task of Celery or of `django.tasks`."""
    return PendingWork(using, None, Stop()).once()


def enqueue(queryset: QuerySet[Any], name: str) -> int:
    """Add entries for the rows of a queryset, in one statement; return their number.

    Use it for rows that were written without `save` (`bulk_create`, `update`), and to fill a column for the first time.
    It is part of the open transaction. Rows of a declaration with `when="empty"` whose targets are filled are skipped.
    Rows of an inline declaration wait for `loopai_batch --pending`. Raises `ConfigurationError`.
    """
    declaration = named(name)
    if not (isinstance(queryset, QuerySet) and issubclass(queryset.model, declaration.model)):
        raise ConfigurationError(f"enqueue: {name!r} is declared for {declaration.model._meta.label}; pass its rows")
    using = queryset._db or router.db_for_write(declaration.model)
    number = outbox.put_all(declaration, queryset, using)
    if number:
        notify_of_many(using, declaration.engine)
    return number
