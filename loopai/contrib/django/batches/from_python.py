"""`run_queryset` and `arun_queryset`: run a batch over a queryset from code. The run itself is in `inline`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Optional, Union, cast
from uuid import uuid4

from asgiref.sync import sync_to_async
from django.db import connections, models, router
from django.db.models import QuerySet
from django.db.models.query import RawQuerySet
from typing_extensions import Unpack

from ....batch.engine.scheduler import INTERRUPTED
from ....batch.engine.stopping import Stop
from ....batch.reporting.report import write_report
from ....batch.reporting.snapshot import Watcher
from ....exceptions import ConfigurationError, LoopaiException
from ....modes import NEW, Mode
from ....shell.edge import at_edge
from ..clients import get_client
from ..conf import DEFAULT_ALIAS
from ..models import BatchRun
from .inline import carry_out, open_inline
from .options import QuerysetOptions, RunOptions, refuse_unknown
from .plan import plan_of
from .queryset import InstancesQuerySet, model_of
from .recording import LeaseLost
from .run_lookup import ResolvedPlan

logger = logging.getLogger("loopai")

MOST_INSTANCES = 10_000
"""Most instances of one run: every query for its rows contains their keys."""

Mapped = Union[Iterable[str], Mapping[str, str], None]


class BatchStopped(LoopaiException):
    """A run ended before all rows were finished. `run` is the `BatchRun`; `mode="resume"` continues it.

    `__cause__` is what stopped it, if that was an error of the server or the connection.
    """

    def __init__(self, message: str, run: Optional[BatchRun] = None) -> None:
        super().__init__(message)
        self.run = cast("BatchRun", run)


def run_queryset(
    queryset: Union[QuerySet[Any], Iterable[models.Model], str],
    task: str,
    *,
    save_to: Sequence[str],
    mapping: Mapped = None,
    mode: Mode = NEW,
    alias: str = DEFAULT_ALIAS,
    database: Optional[str] = None,
    stop: Optional[Stop] = None,
    watchers: Sequence[Watcher] = (),
    **options: Unpack[QuerysetOptions],
) -> BatchRun:
    """Run the rows of a queryset through a task in this process, save the results, and return the `BatchRun`.

    `queryset` is any unsliced QuerySet, a name as for `loopai_batch` (`"mail.Message:unread"`), or an iterable of saved
    instances. Instances are always a new run, and the objects themselves do not change. The other arguments are the
    flags of `loopai_batch`. Rows and run are in the database of `.using()`, otherwise in `database`, otherwise in the
    one that the router writes to. Call `stop` to end the run early. `watchers` are called during the run. With
    `mode="resume"`, a finished run is returned unchanged.

    `run.errors` counts failed rows. Raises `BatchStopped` if the run ends early, `ConfigurationError` if it cannot run,
    and the `LoopaiException` or `DatabaseError` that prevents its start.
    """
    refuse_unknown("run_queryset", options)
    named, given, using = _rows_of(queryset, database, mode)
    if using not in connections:
        raise ConfigurationError(f"DATABASES has no {using!r}; it has {', '.join(connections)}")
    parts = [f"{to}={path}" for to, path in mapping.items()] if isinstance(mapping, Mapping) else list(mapping or ())
    client = get_client(alias)
    made = RunOptions(
        task=task, queryset=named if given is None else given, save_to=list(save_to), mapping=parts, mode=mode,
        alias=alias, database=using, **options,
    )  # fmt: skip
    plan = plan_of(made, client)
    resolved = ResolvedPlan(plan, using, given)
    run = open_inline(resolved, mode, logger.info)
    if run is None:
        finished = BatchRun.objects.db_manager(using).latest_of(plan.fingerprint)
        return cast("BatchRun", finished)
    if made.validate_inputs:
        client = client.with_options(validate_inputs=True)
    if made.edge:
        client = at_edge(client)
    try:
        ended, summary = carry_out(run, resolved, client, run.owner, stop=stop, watchers=watchers)
    except LeaseLost as error:
        raise BatchStopped(f"{error}: nothing more was written here", run) from error
    if made.report is not None:
        write_report(made.report, ended.snapshot(), summary)
    if run.state != BatchRun.State.FINISHED:
        why = run.error or ("cancelled" if run.cancel_requested else INTERRUPTED)
        raise BatchStopped(
            f"run {run.pk} ended before its rows did ({why}): run it again with mode='resume' to continue", run
        ) from ended.scheduler.error
    return run


async def arun_queryset(
    queryset: Union[QuerySet[Any], Iterable[models.Model], str],
    task: str,
    *,
    save_to: Sequence[str],
    mapping: Mapped = None,
    mode: Mode = NEW,
    alias: str = DEFAULT_ALIAS,
    database: Optional[str] = None,
    stop: Optional[Stop] = None,
    watchers: Sequence[Watcher] = (),
    **options: Unpack[QuerysetOptions],
) -> BatchRun:
    """Like `run_queryset`, for asynchronous code: the work is done in a thread.

    If the caller is cancelled, the run is stopped. The call waits for its end, at most for the grace period of `stop`
    (30 seconds): finished rows are saved, and `mode="resume"` continues.
    """
    stop = stop or Stop()
    work = partial(
        run_queryset, queryset, task, save_to=save_to, mapping=mapping, mode=mode, alias=alias, database=database,
        stop=stop, watchers=watchers, **options,
    )  # fmt: skip
    running = asyncio.ensure_future(sync_to_async(work)())
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop()
        while not running.done():
            with suppress(asyncio.CancelledError):  # cancelled again: the run still ends soon
                await asyncio.wait([running])
        if not running.cancelled() and running.exception() is not None:
            logger.info("a run over a queryset was cancelled: %s", running.exception())
        raise


def _rows_of(
    given: Union[QuerySet[Any], Iterable[models.Model], str], database: Optional[str], mode: str
) -> tuple[str, Optional[QuerySet[Any]], str]:
    """Return the source of the rows, their QuerySet if there is one, and their database."""
    if isinstance(given, str):
        return given, None, database or router.db_for_write(model_of(given))
    if isinstance(given, RawQuerySet):
        raise ConfigurationError("queryset: a raw query cannot be paged; pass a QuerySet, or a list of its instances")
    if isinstance(given, QuerySet):
        return "", given, given._db or database or router.db_for_write(given.model)
    if isinstance(given, (models.Model, models.Manager)) or not isinstance(given, Iterable):
        raise ConfigurationError("queryset must be a QuerySet, the name of one, or an iterable of instances")
    if mode != NEW:
        raise ConfigurationError(f"mode {mode!r}: instances are always a new run; pass a QuerySet to resume it")
    rows = list(given)
    kinds = {type(row)._meta.concrete_model for row in rows if isinstance(row, models.Model)}
    if len(kinds) != 1 or not all(isinstance(row, models.Model) for row in rows):
        raise ConfigurationError("queryset: an iterable must hold instances of one model, at least one")
    if any(row.pk is None or row._state.adding for row in rows):
        raise ConfigurationError("queryset: an instance is not saved yet; save it first")
    if len(rows) > MOST_INSTANCES:
        raise ConfigurationError(f"queryset: more than {MOST_INSTANCES:,} instances; pass a QuerySet of them")
    (model,) = kinds
    found = {database} if database else {router.db_for_write(cast("Any", model), instance=row) for row in rows}
    if len(found) > 1:
        listed = ", ".join(sorted(map(str, found)))
        raise ConfigurationError(
            f"queryset: the instances are in several databases ({listed}); run those of each apart"
        )
    using = str(found.pop())
    return "", InstancesQuerySet.of(cast("Any", model), [row.pk for row in rows], using, str(uuid4())), using
