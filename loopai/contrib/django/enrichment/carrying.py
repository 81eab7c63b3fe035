"""Process entries: read the rows again, run them with one call of the batch engine, write those that are unchanged.

No transaction is open during a request. `saving` and `pending` call this.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from django.db import connections, transaction

from ...._core.hooks import CallInfo
from ...._core.operations import Operation
from ....batch.api import call_of
from ....batch.engine import threads
from ....batch.engine.driver import Driver
from ....batch.engine.reader import Reader, from_values
from ....batch.engine.run import Run
from ....batch.engine.scheduler import Scheduler
from ....batch.engine.sender import Sender
from ....batch.engine.stopping import Stop
from ....batch.engine.throttle import LIMITER_PAUSE, LONGEST_PAUSE
from ....batch.reporting.quality import storable
from ....batch.reporting.snapshot import Snapshot
from ....batch.reporting.statistics import Statistics, Summary
from ....batch.rows import CANCELLED, ERROR, Outcome
from ....exceptions import ConfigurationError, ConnectionException, LoopaiException, RateLimitException, ServerException
from ....options import CallOptions
from ....preparation import batch_sender
from ....shell.command import find_task
from ....transports.watchdog import Chore, watchdog
from ..batches.bulk_update import empty
from ..batches.leases import BEAT_SECONDS, LEASE_SECONDS
from ..batches.queryset import KeyedRow
from ..batches.row_writer import OutcomeWriter
from ..batches.run_lookup import ResolvedPlan
from ..models import PendingRow
from ..models.parts import LONGEST_MESSAGE
from . import outbox
from .declarations import Declaration, after

if TYPE_CHECKING:
    from ....client import SyncLoopaiClient

logger = logging.getLogger("loopai")

PATIENCE = 3
"""Attempts after which a failing request is split: one of its rows may be the cause."""

BUSY_SECONDS = 1.0
"""Seconds before a retry of a row that another transaction had locked."""


@dataclass
class Carried:
    """The result of processing entries: counts, written values by entry and column, and why others were postponed.

    `late`: the time limit was exceeded.
    """

    done: int = 0
    failed: int = 0
    postponed: int = 0
    written: dict[str, dict[str, Any]] = field(default_factory=dict)
    error: Union[LoopaiException, ConfigurationError, None] = None
    late: bool = False

    def add(self, other: Carried) -> None:
        """Add another result."""
        self.done += other.done
        self.failed += other.failed
        self.postponed += other.postponed
        self.error = other.error or self.error


class KnownTasks:
    """The tasks of declarations on this client's server, looked up once for each."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, str, Optional[int]]] = {}

    def get(self, declaration: Declaration, client: SyncLoopaiClient, timeout: Optional[float] = None) -> Any:
        """Return id and active version of a declaration's task. Raises `LoopaiException` and `ConfigurationError`."""
        if self.is_ready(declaration, client):
            return self._known[declaration.name][1:]
        asked = client if timeout is None else client.with_options(timeout=timeout, deadline=timeout, max_retries=0)
        task = find_task(asked, declaration.task)
        self._known[declaration.name] = client, str(task.id), task.active_version
        return str(task.id), task.active_version

    def is_ready(self, declaration: Declaration, client: SyncLoopaiClient) -> bool:
        """Return whether the task and its program are known, so that `get` sends no request."""
        known = self._known.get(declaration.name)
        # Tests and changed settings replace the client. A task without a program may have one by now.
        return known is not None and known[0] is client and (declaration.version or known[2]) is not None

    def forget(self, declaration: Declaration) -> None:
        """Look up the task again: it may have another program."""
        self._known.pop(declaration.name, None)


known_tasks = KnownTasks()


class _Plans(threading.local):
    """The plans of declarations with their fields looked up, cached for the saves of a thread."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[tuple[Declaration, str, Optional[int]], ResolvedPlan]] = {}

    def get(self, declaration: Declaration, task_id: str, version: Optional[int], using: str) -> ResolvedPlan:
        """Return the plan of a declaration, with the value caches of its targets cleared."""
        made_of = (declaration, task_id, version)
        known, resolved = self._known.get((declaration.name, using), (None, None))
        if resolved is None or known != made_of:
            plan = declaration.plan(task_id, version, using)
            resolved = ResolvedPlan(plan, using, declaration.model._base_manager.all())
            self._known[declaration.name, using] = made_of, resolved
        for target in resolved.targets:
            target.forget()
        return resolved


_plans = _Plans()


def carry(
    declaration: Declaration,
    using: str,
    owner: str,
    taken: Sequence[PendingRow],
    client: SyncLoopaiClient,
    stop: Stop,
    *,
    until: Optional[float] = None,
    clock: Callable[[], float] = monotonic,
) -> Carried:
    """Process entries that `owner` has claimed; afterwards it owns none of them.

    Stops waiting at `until`, by `clock`. Raises exceptions of the database; the lease then expires.
    """
    ids = [entry.pk for entry in taken]
    try:
        task_id, version = known_tasks.get(declaration, client, None if until is None else until - clock())
    except (LoopaiException, ConfigurationError) as error:
        # Includes a missing task: it may be created later, and other declarations must not wait for that.
        known_tasks.forget(declaration)
        outbox.postpone(using, owner, ids, str(error))
        return Carried(postponed=len(taken), error=error, late=until is not None and clock() >= until)
    except Exception:
        outbox.release(using, owner, ids, seconds=60.0)
        raise
    resolved = _plans.get(declaration, task_id, version, using)
    entries = {entry.key: entry for entry in taken}
    rows = []
    found: dict[str, Any] = {}
    for values in resolved.rows.by_key(entries).values():
        found[outbox.key_of(declaration, values[0])] = values
    for number, key in enumerate(sorted(found), 1):
        rows.append(resolved.rows.row(found[key], number, None))
    outcomes, failure, late = _executed(declaration, resolved, rows, client, using, owner, stop, taken, until, clock)
    writer = _EntryWriter(declaration, resolved, using, owner, entries, declaration.version or version)
    ended = [outcome for outcome in outcomes if outcome.status != CANCELLED]
    writer.write(ended, [key for key in entries if key not in found])
    carried = writer.carried
    carried.error, carried.late = failure, late
    carried.postponed += len(outcomes) - len(ended)
    if isinstance(failure, RateLimitException):
        pause = LIMITER_PAUSE if failure.retry_after is None else min(failure.retry_after, LONGEST_PAUSE)
        outbox.release(using, owner, ids, seconds=pause)
    elif failure is not None and not late:
        known_tasks.forget(declaration)
        outbox.postpone(using, owner, ids, str(failure))
    elif carried.done + carried.failed < len(taken):
        outbox.release(using, owner, ids, seconds=BUSY_SECONDS if writer.busy else 0.0)
    return carried


def _executed(
    declaration: Declaration,
    resolved: ResolvedPlan,
    rows: Sequence[KeyedRow],
    client: SyncLoopaiClient,
    using: str,
    owner: str,
    stop: Stop,
    taken: Sequence[PendingRow],
    until: Optional[float],
    clock: Callable[[], float],
) -> tuple[list[Outcome], Optional[LoopaiException], bool]:
    """Return the outcomes, the error that left rows without one, and whether the time limit was the reason."""
    if not rows:
        return [], None, False
    ends = Stop(grace=0.0)
    forget = stop.on_request(ends)
    alarm = Chore(ends)  # uses the thread for call timeouts: starting one for each save costs too much
    options: CallOptions = {}
    if until is not None:
        left = until - clock()
        options["timeout"] = max(left, 0.001)
        watchdog.set(alarm, max(left, 0.0))
    sender = _StoppingSender(
        batch_sender(client, **options), ends, splits=min(entry.tries for entry in taken) >= PATIENCE
    )
    made = Run(
        call_of(resolved.plan.task_id, resolved.plan, plain=resolved.rows.plain),
        rows,
        Reader(from_values(None)),
        Scheduler(resolved.plan),
        Statistics(0.0),
        watchers=[_Lease(using, owner, [entry.pk for entry in taken])],
    )
    try:
        outcomes = list(threads.perform(Driver(lambda _: made, sender, ends, emits=True, raises=False)))
    finally:
        forget()
        watchdog.unset(alarm)
    late = until is not None and clock() >= until
    return outcomes, sender.error or made.scheduler.error, late


class _StoppingSender:
    """A sender without retries: a later attempt repeats failed requests.

    With `splits`, a request that the server cannot answer is split until the row that causes this is alone.
    """

    def __init__(self, sender: Sender, stop: Stop, *, splits: bool) -> None:
        self._sender = sender
        self._stop = stop
        self._splits = splits
        self.items, self.resends = sender.items, sender.resends
        self.end, self.read_task = sender.end, sender.read_task
        self.error: Optional[LoopaiException] = None

    def begin(self, batch: CallInfo) -> Callable[[Operation[Any]], Any]:
        """See `Sender`."""
        send = self._sender.begin(batch)

        def once(operation: Operation[Any]) -> Any:
            try:
                return send(operation)
            except (ConnectionException, ServerException, RateLimitException) as error:
                splits = self._splits and isinstance(error, ServerException) and error.status_code != 503
                if not splits:
                    self.error = error
                    self._stop()
                raise

        return once


class _Lease:
    """Extends the lease of the entries during their request."""

    def __init__(self, using: str, owner: str, ids: Sequence[str]) -> None:
        self._using = using
        self._owner = owner
        self._ids = ids
        self._next = monotonic() + BEAT_SECONDS

    def update(self, snapshot: Snapshot) -> None:
        """See `Watcher`."""
        if monotonic() >= self._next:
            self._next = monotonic() + BEAT_SECONDS
            outbox.beat(self._using, self._owner, self._ids, LEASE_SECONDS)

    def finish(self, snapshot: Snapshot, summary: Summary) -> None:
        """See `Watcher`."""


class _EntryWriter(OutcomeWriter):
    """Writes outcomes to their rows and deletes their entries from the outbox.

    A row is written if its entry still belongs to this owner and has the revision that was read. Rows and entries that
    another transaction has locked are skipped, so that there is no deadlock with a save.
    """

    def __init__(
        self,
        declaration: Declaration,
        resolved: ResolvedPlan,
        using: str,
        owner: str,
        entries: dict[str, PendingRow],
        version: Optional[int],
    ) -> None:
        super().__init__(resolved.rows, resolved.targets, declaration.only_empty, using)
        self._declaration = declaration
        self._owner = owner
        self._entries = entries
        self._version = version
        self.carried = Carried()
        self.busy: set[str] = set()

    def write(self, ended: Sequence[Outcome], gone: Collection[str]) -> None:
        """Write ok rows, keep failed ones; `gone` are keys of rows that were deleted or need no work any more."""
        if ended or gone:
            self._rows.database.attempt(lambda: self._once(ended, gone))

    def _entry(self, outcome: Outcome) -> PendingRow:
        row: Any = outcome.row
        return self._entries[outbox.key_of(self._declaration, row.pk)]

    def _kept(self, ended: Sequence[Outcome], gone: Collection[str]) -> int:
        self.carried = carried = Carried()
        using, owner = self._using, self._owner
        connection: Any = connections[using]
        pairs = self._cleaned(ended)
        ids = [entry.pk for entry in self._entries.values()]
        with transaction.atomic(using=using):
            if connection.vendor == "sqlite":
                # SQLite refuses to write after a read if another process wrote in between.
                outbox.held(using, owner, ids).update(owner=owner)
            there, revisions = self._locked([change[0] for _, change in pairs], ids)
            mine = {entry.pk for entry in self._entries.values() if revisions.get(entry.pk) == entry.revision}
            wanted = [pair for pair in pairs if pair[1][0] in there and self._entry(pair[0]).pk in mine]
            self._write(wanted)
            written = [pair for pair in wanted if pair[0].status != ERROR]
            for outcome, (_, values) in written:
                made = {target.field.attname: value for target, value in zip(self._targets, values)}
                carried.written[self._entry(outcome).pk] = made
            self.busy = busy = self._busy([pair for pair in pairs if pair[1][0] not in there])
            done = {self._entries[key].pk for key in gone}
            for outcome in ended:
                entry = self._entry(outcome)
                if outcome.status == ERROR:
                    self._fail(entry, outcome, mine)
                elif entry.pk not in busy:
                    done.add(entry.pk)
            carried.done = len(done & mine)
            outbox.remove(using, owner, sorted(done & mine))
            self._put_in_for_others([change[0] for _, change in written])
        return 0

    def _locked(self, pks: Sequence[Any], ids: Sequence[str]) -> tuple[set[Any], dict[str, int]]:
        """Return the existing rows, and the revisions of this owner's entries; both are locked."""
        model, fields = self._rows.model, [target.field for target in self._targets]
        if len(pks) == len(ids) == 1 and all(field.model is model for field in fields):
            empties = fields if self._only_empty else ()
            found = outbox.locked_with_row(self._using, self._owner, ids[0], model, pks[0], empties)
            if found is not None:
                return set(pks), found
        skip: bool = connections[self._using].features.has_select_for_update_skip_locked
        return self._there(pks, skip_locked=skip), outbox.locked(self._using, self._owner, ids)

    def _put_in_for_others(self, pks: Sequence[Any]) -> None:
        """Add entries for the declarations that map the written columns."""
        wanted: list[tuple[Declaration, Any]] = []
        for other in after(self._declaration) if pks else ():
            if callable(other.when):
                continue
            there = set(pks)
            if not issubclass(self._declaration.model, other.model):
                # A model that inherits the table may have only some of the rows.
                there.intersection_update(
                    other.model._base_manager.using(self._using).filter(pk__in=pks).values_list("pk", flat=True)
                )
            wanted += [(other, pk) for pk in pks if pk in there]
        if wanted:
            outbox.put(wanted, self._using)

    def _busy(self, pairs: Sequence[Any]) -> set[str]:
        """Return the entries of rows that still exist and need work, but are locked by another transaction."""
        if not pairs:
            return set()
        rows: Any = self._rows.model._base_manager.using(self._using).filter(pk__in=[change[0] for _, change in pairs])
        for target in self._targets if self._only_empty else ():
            rows = rows.filter(empty(target.field))
        there = set(rows.values_list("pk", flat=True))
        return {self._entry(outcome).pk for outcome, change in pairs if change[0] in there}

    def _fail(self, entry: PendingRow, outcome: Outcome, mine: Collection[str]) -> None:
        if entry.pk not in mine:
            return
        self.carried.failed += 1
        outbox.held(self._using, self._owner, [entry.pk]).update(
            state=PendingRow.State.FAILED, code=outcome.code or "", version=self._version, owner="", lease_until=None,
            message=storable((outcome.error or "")[:LONGEST_MESSAGE]),
        )  # fmt: skip
