"""Handle a save: add an entry, and start the declaration's engine after the commit."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from time import monotonic
from typing import Any, Optional

from django.db import connections, models, transaction
from django.db.models.signals import post_save
from django.utils.module_loading import import_string

from ....batch.engine.stopping import Stop
from ..batches.database import Database
from ..batches.leases import LEASE_SECONDS, owner_name
from ..clients import get_client
from ..models import PendingRow
from . import outbox
from .carrying import carry, known_tasks
from .declarations import CELERY, INLINE, TASKS, Declaration, before, declared

logger = logging.getLogger("loopai")

MOST_INLINE = 100
"""Most rows of one commit that run inline."""

ENDS_IN_A_ROW = 2
"""After this many commits in a row exceed the time limit, the process pauses inline work."""

PAUSE_SECONDS = 30.0
"""That while."""

SHORTEST = 0.01
"""Minimum remaining seconds for sending a request."""


class _Saved:
    """A saved row: its entry, and the instance with the earlier values of its targets."""

    def __init__(self, declaration: Declaration, entry: PendingRow, instance: models.Model) -> None:
        self.declaration = declaration
        self.entry = entry
        self.instance = instance
        self.values = {target.attname: instance.__dict__.get(target.attname) for target in declaration.targets}


class _Commit:
    """The work of one commit. Savepoints may discard callbacks, so the first one called does the work of all."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.saved: dict[str, _Saved] = {}
        self.engines: set[str] = set()

    def done(self) -> None:
        """Run after the commit. Raises nothing."""
        saved, self.saved = list(self.saved.values()), {}
        engines, self.engines = self.engines, set()
        try:
            for engine in engines:
                _start(engine, self.using, saved)
        except Exception:  # the row is saved and its entry exists, even if the work fails
            logger.exception("rows were saved, and are left for `loopai_batch --pending`")


_commits = threading.local()


def _commit_of(using: str) -> _Commit:
    # Lives as long as a callback of its transaction: a rollback discards both.
    known: dict[str, Any] = _commits.__dict__
    found = known.get(using)
    commit: Optional[_Commit] = None if found is None else found()
    if commit is None:
        commit = _Commit(using)
        known[using] = weakref.ref(commit)
    return commit


def notify(using: str, saved: Iterable[_Saved]) -> None:
    """Notify the engines after the commit. Raises if that is impossible."""
    commit = _commit_of(using)
    for one in saved:
        engine = one.declaration.engine
        if engine is not None:
            commit.engines.add(engine)
        if engine == INLINE and (one.entry.pk in commit.saved or len(commit.saved) < MOST_INLINE):
            commit.saved[one.entry.pk] = one
    if commit.engines:
        transaction.on_commit(commit.done, using=using)


def notify_of_many(using: str, engine: Optional[str]) -> None:
    """Notify an engine other than the inline one after the commit."""
    if engine not in {None, INLINE}:
        commit = _commit_of(using)
        commit.engines.add(str(engine))
        try:
            transaction.on_commit(commit.done, using=using)
        except transaction.TransactionManagementError:  # as above
            logger.warning("enqueue: autocommit is off: left for `loopai_batch --pending`")


class _Watch:
    """Decides whether a save needs an entry of one declaration."""

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration
        self._sources = {name for field in declaration.mapped for name in (field.name, field.attname)}
        self._targets = [target.attname for target in declaration.targets] if declaration.only_empty else []

    def wants(self, instance: Any, created: bool, update_fields: Any, using: str) -> bool:
        if update_fields is not None and self._sources.isdisjoint(update_fields):
            return False
        values = instance.__dict__
        for name in self._targets:
            # Deferred fields are checked when the row is read. Values are not compared: an array's `==` may raise.
            value = values.get(name)
            if value is not None and not (isinstance(value, str) and not value):
                return False
        when = self.declaration.when
        if not callable(when):
            return True
        try:
            with _undone_if_it_fails(connections[using]):
                return bool(when(instance, created))
        except Exception:  # the user's function; it must not make a save fail
            logger.exception(
                "enrich %s: `when` failed for row %r, which is skipped", self.declaration.name, instance.pk
            )
            return False


@contextmanager
def _undone_if_it_fails(connection: Any) -> Iterator[None]:
    """Undo the queries of a failing function: otherwise PostgreSQL refuses the rest of the saver's transaction."""
    if not connection.in_atomic_block or connection.needs_rollback:
        yield
        return
    savepoint: Optional[str] = None

    def before(execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        nonlocal savepoint
        if savepoint is None:
            savepoint = ""  # being created
            savepoint = connection.savepoint()
        return execute(sql, params, many, context)

    try:
        # Most functions send no query, and need no savepoint.
        with connection.execute_wrapper(before):
            yield
    except Exception:
        connection.needs_rollback = False
        if savepoint:
            connection.savepoint_rollback(savepoint)
        raise
    if savepoint:
        connection.savepoint_commit(savepoint)


_watches: dict[Any, list[_Watch]] = {}


def watch(declaration: Declaration, model: type[models.Model]) -> None:
    """Check each save of a model."""
    known = _watches.setdefault(model, [])
    known.append(_Watch(declaration))
    # One receiver for all declarations: all entries are added before any is processed.
    post_save.connect(_receive, sender=model, weak=False, dispatch_uid="loopai.enrich")


def unwatch(declaration: Declaration, model: type[models.Model]) -> None:
    """Stop checking saves of a model."""
    left = [one for one in _watches.pop(model, ()) if one.declaration is not declaration]
    if left:
        _watches[model] = left
    else:
        post_save.disconnect(sender=model, dispatch_uid="loopai.enrich")


def _receive(sender: Any, instance: Any, created: bool, raw: bool, using: str, update_fields: Any, **_: Any) -> None:
    if raw:
        return
    wanted = [one.declaration for one in _watches[sender] if one.wants(instance, created, update_fields, using)]
    if wanted:
        _save(wanted, instance, using)


def _save(wanted: list[Declaration], instance: models.Model, using: str) -> None:
    connection: Any = connections[using]
    names = ", ".join(one.name for one in wanted)
    nested = connection.in_atomic_block or not connection.get_autocommit()

    owner = ""

    def put() -> list[PendingRow]:
        # An error must not abort the saver's transaction; without one, the statement is a transaction itself.
        with transaction.atomic(using=using) if nested else nullcontext():
            return outbox.put([(one, instance.pk) for one in wanted], using, owner)

    try:
        if not nested and _inline.is_ready(wanted) and outbox.can_take_at_once(using):
            owner = owner_name()  # autocommit: the statement that adds the entry also claims it
        entries = Database(using).attempt(put)
    except Exception:
        if connection.needs_rollback:
            raise  # the database aborted the saver's transaction and the save: do not hide it
        logger.exception("enrich %s: row %r was saved without its entry", names, instance.pk)
        return
    try:
        notify(using, [_Saved(one, entry, instance) for one, entry in zip(wanted, entries)])
    except transaction.TransactionManagementError:  # autocommit is off: the time of the commit is unknown
        logger.warning("enrich %s: autocommit is off: left for `loopai_batch --pending`", names)


def _start(engine: str, using: str, saved: list[_Saved]) -> None:
    if engine == INLINE:
        _inline.work(using, saved)
    elif engine == CELERY:
        # By name: the task's module imports this package.
        import_string("loopai.contrib.celery.tasks.carry_out_pending").delay(using)
    elif engine == TASKS:
        import_string("loopai.contrib.django.enrichment.background.carry_out_pending").enqueue(using)


class _Inline:
    """Work in the saver's thread, with a time limit; paused after it was exceeded twice in a row."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._ends = 0
        self._paused_until = float("-inf")

    def is_ready(self, wanted: list[Declaration]) -> bool:
        """Return whether all of these can run now, as far as is known without a request."""
        return self._clock() >= self._paused_until and all(
            one.engine == INLINE and not before(one) and known_tasks.is_ready(one, get_client(one.alias))
            for one in wanted
        )

    def work(self, using: str, saved: list[_Saved]) -> None:
        """Process the entries of one commit; return claimed ones that cannot run now."""
        held = {one.entry.pk: one.entry for one in saved if one.entry.owner}
        try:
            if saved and self._clock() >= self._paused_until:
                self._work(using, saved, held)
        finally:
            for entry in held.values():
                outbox.release(using, entry.owner, [entry.pk])

    def _work(self, using: str, saved: list[_Saved], held: dict[str, PendingRow]) -> None:
        began = self._clock()
        late = False
        for declaration in declared():
            mine = {one.entry.pk: one for one in saved if one.declaration.name == declaration.name}
            until = began + declaration.within
            if not mine or until - self._clock() < SHORTEST:
                continue
            late = self._carry(declaration, using, mine, held, until) or late
        self._ends = self._ends + 1 if late else 0
        if self._ends >= ENDS_IN_A_ROW:
            self._ends = 0
            self._paused_until = self._clock() + PAUSE_SECONDS
            logger.warning(
                "enrich: inline work ran out of time twice; for %.0f s it is left for `loopai_batch --pending`",
                PAUSE_SECONDS,
            )

    def _carry(
        self,
        declaration: Declaration,
        using: str,
        mine: dict[str, _Saved],
        held: dict[str, PendingRow],
        until: float,
    ) -> bool:
        """Return whether the time limit was exceeded."""
        client = get_client(declaration.alias)
        began = self._clock()
        try:
            _, version = known_tasks.get(declaration, client, until - began)
        except Exception as error:  # noqa: BLE001  # after any error, the entries are processed later
            logger.warning("enrich %s: rows are left for `loopai_batch --pending`: %s", declaration.name, error)
            return self._clock() >= until
        if version is None and declaration.version is None:
            return False  # the first execution makes the program, however long that takes
        taken = [held.pop(entry) for entry in mine if entry in held]
        if not taken:
            taken = outbox.take(using, declaration, owner_name(), LEASE_SECONDS, list(mine))
        if not taken:
            return False
        owner = taken[0].owner
        carried = carry(declaration, using, owner, taken, client, Stop(0.0), until=until, clock=self._clock)
        for entry, values in carried.written.items():
            _show(mine[entry], values)
        if carried.error is not None:
            logger.warning("enrich %s: rows are left for later: %s", declaration.name, carried.error)
        return carried.late


def _show(saved: _Saved, values: dict[str, Any]) -> None:
    """Set the results on the instance, unless its attributes have changed, so that a second `save()` keeps them."""
    now = saved.instance.__dict__
    for name, value in values.items():
        if name in now and _is_as_it_was(now[name], saved.values.get(name)):
            setattr(saved.instance, name, value)


def _is_as_it_was(now: Any, before: Any) -> bool:
    # An array's `==` returns another array.
    return now is before or (now == before) is True


_inline = _Inline()
