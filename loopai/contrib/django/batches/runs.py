"""Which `BatchRun` a command means: a new one, or an earlier one by its fingerprint. Who carries it out comes after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from django.db import transaction
from django.utils import timezone

from ....batch.resume.checkpoint import NEW, OVERWRITE, RESUME, RETRY_FAILED
from ....exceptions import ConfigurationError
from ..models import BatchRun
from .leases import LEASE_SECONDS, wait_until_free
from .plans import Plan
from .rows import Rows
from .targets import Target, targets_of
from .updates import empty

Say = Callable[[str], None]


class Work:
    """A plan with its rows and targets looked up. Raises `ConfigurationError`."""

    def __init__(self, plan: Plan, database: str) -> None:
        self.plan = plan
        self.rows = Rows(plan.queryset, plan.filters, plan.mapping, database, plan.also)
        self.targets: list[Target] = targets_of(plan.save_to, self.rows.model, plan.only_empty)
        if plan.only_empty:
            for target in self.targets:
                self.rows.queryset = self.rows.queryset.filter(empty(target.field))


def open_run(
    work: Work, mode: str, engine: str, owner: str, say: Say, *, database: str, command: list[str]
) -> Optional[BatchRun]:
    """The run, owned by `owner`; `None` where it is finished already, which is said.

    Raises `ConfigurationError` where an earlier run is unfinished and `mode` does not say what becomes of it, or
    somebody is at it.
    """
    plan = work.plan
    earlier: Optional[BatchRun] = BatchRun.objects.db_manager(database).latest_of(plan.fingerprint)
    if earlier is None or mode == OVERWRITE or (mode == NEW and earlier.state == BatchRun.State.FINISHED):
        if earlier is None and mode in {RESUME, RETRY_FAILED}:
            say("Nothing to resume: starting from the first row.")
        if earlier is not None and earlier.state != BatchRun.State.FINISHED:
            wait_until_free(earlier, say)
            _only(earlier).update(state=BatchRun.State.CANCELLED, owner="", lease_until=None)
        return _begin(work, engine, owner, database, command)
    if mode == NEW:
        if earlier.is_live():
            wait_until_free(earlier, say)
        raise ConfigurationError(
            f"run {earlier.pk} over the same rows ended early ({earlier.done:,} rows done): go on with --resume, "
            "repeat what failed with --retry-failed, or start again with --overwrite"
        )
    wait_until_free(earlier, say)
    was = earlier.options.get("expect")
    if earlier.tally and engine == str(BatchRun.Engine.CELERY) and was != plan.expect:
        raise ConfigurationError(
            f"run {earlier.pk} compared its rows with {was}, this command with {plan.expect}: give the same --expect"
        )
    if not _ask(earlier, work, mode, say):
        return None
    changed = {"options": plan.options(), "engine": engine, "command": command}
    _only(earlier, state=BatchRun.State.PENDING).update(**changed)
    if not earlier.acquire(owner, timezone.now(), LEASE_SECONDS):
        raise ConfigurationError(f"run {earlier.pk} was taken by another runner at this moment: see it in the admin")
    return earlier


def _only(run: BatchRun, **expected: Any) -> Any:
    return BatchRun.objects.using(run.database).filter(pk=run.pk, **expected)


def _ask(run: BatchRun, work: Work, mode: str, say: Say) -> bool:
    """Have an earlier run pending; `False`, and said, if there is nothing to do."""
    if run.state == BatchRun.State.PENDING:
        return True
    # Whoever calls carries the run out; nobody else need be told, as `request_resume` would.
    if mode == RETRY_FAILED and run.errors:
        wanted = BatchRun.Mode.RETRY_FAILED
    elif run.state != BatchRun.State.FINISHED:
        wanted = BatchRun.Mode.RESUME
    elif mode == RETRY_FAILED:
        say(f"Run {run.pk} is finished and no row failed: nothing was sent.")
        return False
    elif run.options.get("limit") != work.plan.limit and _more_rows(run, work):
        wanted = BatchRun.Mode.RESUME
    else:
        say(f"Run {run.pk} is finished already: nothing was sent.")
        return False
    clean: dict[str, Any] = {"cancel_requested": False, "error": "", "finished_at": None, "lease_until": None}
    _only(run, state=run.state, owner=run.owner).update(
        state=BatchRun.State.PENDING, mode=wanted, **{**clean, "owner": ""}
    )
    run.refresh_from_db()
    return True


def _more_rows(run: BatchRun, work: Work) -> bool:
    """Where a finished run had another limit: whether there is more up to this one, by which it is extended."""
    run.upper_key = None
    rest = run.remaining(work.rows.queryset)
    limit = work.plan.limit
    if limit is not None and limit <= run.done:
        return False
    upper = work.rows.upper_key(rest, None if limit is None else limit - run.done)
    if upper is None:
        return False
    run.upper_key = upper
    total = run.done + run.remaining(work.rows.queryset).count()
    _only(run).update(upper_key=upper, total=total)
    return True


def _begin(work: Work, engine: str, owner: str, database: str, command: list[str]) -> BatchRun:
    plan, rows = work.plan, work.rows
    upper, total = rows.extent(plan.limit)
    run = BatchRun(
        task=plan.task,
        alias=plan.alias,
        source=plan.source,
        engine=engine,
        fingerprint=plan.fingerprint,
        options=plan.options(),
        command=command,
        key_kind=rows.kind,
        upper_key=upper,
        total=total,
    )
    with transaction.atomic(using=database):  # nobody sees it pending
        run.save(using=database)
        run.acquire(owner, timezone.now(), LEASE_SECONDS)
    others = BatchRun.objects.using(database).filter(fingerprint=plan.fingerprint, pk__lt=run.pk)
    at_work = [other for other in others.filter(state=BatchRun.State.RUNNING) if other.is_live()]
    if at_work:
        # Two commands at one moment: the first to be made stays.
        run.delete()
        raise ConfigurationError(f"run {at_work[0].pk} over the same rows is being carried out: wait for it")
    return run
