"""Find or create the `BatchRun` of a command: a new one, or an earlier one with the same fingerprint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Optional

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, transaction
from django.db.models import QuerySet
from django.utils import timezone

from ....batch.reporting.one_line import counted
from ....exceptions import ConfigurationError, RunInProgressError
from ....modes import CONTINUE, OVERWRITE, RESUME, RETRY_FAILED
from ..models import BatchRun
from .bulk_update import empty
from .leases import LEASE_SECONDS, person, wait_until_free
from .plan import Plan
from .queryset import QuerysetRows
from .targets import Target, targets_of

Say = Callable[[str], None]

MOST_COMPARED = 50
"""Most earlier runs of a model that are compared with a command's options."""


class ResolvedPlan:
    """A plan with its rows and targets looked up. Raises `ConfigurationError`."""

    def __init__(self, plan: Plan, database: str, queryset: Optional[QuerySet[Any]] = None) -> None:
        self.plan = plan
        self.rows = QuerysetRows(
            plan.queryset if queryset is None else queryset,
            plan.filters,
            tuple(plan.mapping or ()),
            database,
            excludes=plan.excludes,
            also=plan.also,
        )
        self.targets: list[Target] = targets_of(plan.save_to, self.rows.model, plan.only_empty, database)
        if plan.only_empty:
            for target in self.targets:
                self.rows.queryset = self.rows.queryset.filter(empty(target.field))


def open_run(
    resolved: ResolvedPlan, mode: str, engine: str, owner: str, say: Say, command: Sequence[str] = ()
) -> Optional[BatchRun]:
    """Return the run, owned by `owner`; `None`, with a message, if it is finished already.

    Raises `ConfigurationError` if an earlier run is unfinished and `mode` does not say what to do with it, and
    `RunInProgressError` if another process runs it.
    """
    plan = resolved.plan
    runs = BatchRun.objects.db_manager(plan.database)
    earlier: Optional[BatchRun] = resolved.rows.database.attempt(lambda: runs.latest_of(plan.fingerprint))
    if earlier is not None and (mode in {RESUME, RETRY_FAILED} or earlier.state != BatchRun.State.FINISHED):
        wait_until_free(earlier, say)  # it may finish meanwhile
    goes_on = mode in {RESUME, RETRY_FAILED}
    if mode == CONTINUE and earlier is not None and earlier.state != BatchRun.State.FINISHED:
        mode, goes_on = RESUME, True
    if earlier is not None and goes_on:
        return _resume(earlier, resolved, mode, engine, owner, say, list(command))
    if goes_on:
        _refuse_another(plan)
        say("Nothing to resume: starting from the first row.")
    elif earlier is not None and earlier.state != BatchRun.State.FINISHED:
        if mode != OVERWRITE:
            raise ConfigurationError(
                f"run {earlier.pk} over the same rows ended early ({counted(earlier.done, 'row')} done): continue with "
                "--resume, repeat what failed with --retry-failed, or start again with --overwrite"
            )
        earlier.row().filter(state=earlier.state).update(state=BatchRun.State.CANCELLED, owner="", lease_until=None)
    return _begin(resolved, engine, owner, list(command))


def _resume(
    run: BatchRun, resolved: ResolvedPlan, mode: str, engine: str, owner: str, say: Say, command: list[str]
) -> Optional[BatchRun]:
    plan, was = resolved.plan, run.options.get("expect")
    if run.tally and engine == str(BatchRun.Engine.CELERY) and was != plan.expect:
        raise ConfigurationError(
            f"run {run.pk} compared its rows with {was}, this command with {plan.expect}: pass the same --expect"
        )
    database = resolved.rows.database
    if not database.attempt(lambda: _ask(run, resolved, mode, say)):
        return None
    versions = list(run.options.get("versions") or ())
    if plan.active_version is not None and versions[-1:] != [plan.active_version]:
        if versions:
            say(
                f"The active version of task {plan.task} was {versions[-1]} and is {plan.active_version} now: the rows "
                "that remain run on it."
            )
        versions.append(plan.active_version)
    changed = {"options": {**plan.kept(), "versions": versions}, "engine": engine, "command": command}
    database.attempt(lambda: run.row().filter(state=BatchRun.State.PENDING).update(**changed))
    if not database.attempt(lambda: run.acquire(owner, timezone.now(), LEASE_SECONDS)):
        raise RunInProgressError(
            "run {number} was taken by another runner at this moment: see it in the admin", number=run.pk
        )
    return run


_SAME_ROWS = ("queryset", "filters", "excludes", "save_to", "only_empty")
_DIFFERENCES = {
    "database": "--database",
    "task_id": "task",
    "version": "--task-version",
    "mapping": "--map",
    "alias": "--alias",
}


def _refuse_another(plan: Plan) -> None:
    """Raise `ConfigurationError` if the last run over these rows has another task, version, mapping or database.

    It would not be resumed, and its finished rows would run again.
    """
    mine = plan.kept()
    for database in (plan.database, *(name for name in connections if name != plan.database)):
        # A database without the table, forbidden in a test, or a dummy (`"default": {}`) has no run.
        with suppress(DatabaseError, AssertionError, ImproperlyConfigured):
            for run in BatchRun.objects.using(database).filter(options__queryset=plan.queryset)[:MOST_COMPARED]:
                theirs = run.options
                if theirs.get("database") != database or any(
                    _of(theirs, name) != _of(mine, name) for name in _SAME_ROWS
                ):
                    continue
                for name, flag in _DIFFERENCES.items():
                    if _of(theirs, name) != _of(mine, name):
                        raise ConfigurationError(
                            f"run {run.pk} over the same rows cannot be resumed: its {flag} is "
                            f"{_shown(theirs.get(name))}, this command's {_shown(mine[name])}. Pass the same, or start "
                            "again with --overwrite"
                        )
                return


def _of(options: Mapping[str, Any], name: str) -> Any:
    value = options.get(name)
    return sorted(value) if isinstance(value, (list, tuple)) else value


def _shown(value: Any) -> str:
    if value is None:
        return "not given"
    return ", ".join(value) if isinstance(value, (list, tuple)) else str(value)


def _ask(run: BatchRun, resolved: ResolvedPlan, mode: str, say: Say) -> bool:
    """Make an earlier run pending; `False`, with a message, if there is nothing to do."""
    if run.state == BatchRun.State.PENDING:
        return True
    # The caller executes the run, so workers are not notified, unlike in `request_resume`.
    if mode == RETRY_FAILED and run.errors:
        wanted = BatchRun.Mode.RETRY_FAILED
    elif run.state != BatchRun.State.FINISHED:
        wanted = BatchRun.Mode.RESUME
    elif mode == RETRY_FAILED:
        say(f"Run {run.pk} is finished and no row failed: nothing was sent.")
        return False
    elif run.options.get("limit") != resolved.plan.limit and _more_rows(run, resolved):
        wanted = BatchRun.Mode.RESUME
    else:
        say(f"Run {run.pk} is finished already: nothing was sent.")
        return False
    clean: dict[str, Any] = {"cancel_requested": False, "error": "", "finished_at": None, "lease_until": None}
    mine = run.row().filter(state=run.state, owner=run.owner)
    mine.update(state=BatchRun.State.PENDING, mode=wanted, owner="", **clean)
    run.refresh_from_db()
    return True


def _more_rows(run: BatchRun, resolved: ResolvedPlan) -> bool:
    """Extend a finished run that had another limit; return whether there are more rows up to this one."""
    run.upper_key = None
    rest = run.remaining(resolved.rows.queryset)
    limit = resolved.plan.limit
    if limit is not None and limit <= run.done:
        return False
    upper = resolved.rows.upper_key(rest, None if limit is None else limit - run.done)
    if upper is None:
        return False
    run.upper_key = upper
    total = run.done + run.remaining(resolved.rows.queryset).count()
    run.row().update(upper_key=upper, total=total)
    return True


def _begin(resolved: ResolvedPlan, engine: str, owner: str, command: list[str]) -> BatchRun:
    plan, rows, database = resolved.plan, resolved.rows, resolved.plan.database
    upper, total = rows.extent(plan.limit)
    run = BatchRun(
        task=plan.task,
        alias=plan.alias,
        source=plan.source,
        engine=engine,
        fingerprint=plan.fingerprint,
        options={**plan.kept(), "versions": [] if plan.active_version is None else [plan.active_version]},
        command=command,
        started_by=person(),
        upper_key=upper,
        total=total,
    )

    def save() -> BatchRun:
        with transaction.atomic(using=database):  # no other process sees it pending
            run.pk = None
            run.save(using=database, force_insert=True)
            run.acquire(owner, timezone.now(), LEASE_SECONDS)
        return run

    runs, attempt = BatchRun.objects.using(database), rows.database.attempt
    newest = attempt(runs.order_by("-pk").values_list("pk", flat=True).first) or 0
    run = attempt(save, runs.filter(pk__gt=newest, fingerprint=plan.fingerprint, owner=owner).first)
    others = runs.filter(fingerprint=plan.fingerprint, pk__lt=run.pk, state=BatchRun.State.RUNNING)
    at_work = [other for other in attempt(lambda: list(others.all())) if other.is_live()]
    if at_work:
        # Two commands started at the same moment: the first run stays.
        run.delete(using=database)
        raise RunInProgressError("run {number} over the same rows is in progress: wait for it", number=at_work[0].pk)
    return run
