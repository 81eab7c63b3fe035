"""A whole batch of which the database knows, from checked options to exit code: over a queryset, or in workers.

Flags are parsed by the management command; a file that this process runs by itself is `loopai.batch.command`'s.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Optional, TextIO

from ....batch.command import ALL_OK, PLANNED, BatchCommand, Ending, find_task
from ....batch.ledger import Ledger
from ....batch.mapping import InputMapping
from ....batch.quality import Expectation
from ....batch.reading import Reader, from_values
from ....batch.report import check_report
from ....batch.runs import FINISHED, Run, mode_of, perform, prepare
from ....batch.scheduler import Scheduler
from ....batch.stopping import Stop
from ....batch.streams import sender
from ....batch.surveying import Survey, survey
from ....batch.tally import Summary, Tally
from ....exceptions import ConfigurationError
from ..models import BatchRun
from .files import GivenFile
from .following import CODES, follow
from .inline import carry_out
from .leases import owner_name
from .outputs import folder_of, kind_of, refuse_workers_output
from .parts import WORKERS
from .plans import Plan, default_mapping
from .rows import Rows, columns_of, model_of
from .runs import Work, open_run
from .tallies import watched, whole

if TYPE_CHECKING:
    from ....client import SyncLoopaiClient

INLINE = "inline"
CELERY = "celery"

CANCELLED = 143
"""Exit code of a run that was cancelled in the admin: as if it had been terminated."""


@dataclass
class RunOptions:
    """The flags of `loopai_batch`, by their names; rows come from `queryset`, or for workers from a file (`input`)."""

    task: str
    queryset: Optional[str] = None
    input: Optional[str] = None
    save_to: Sequence[str] = ()
    output: Optional[str] = None
    output_format: Optional[str] = None
    filters: Sequence[str] = ()
    map: Sequence[str] = ()
    only_empty: bool = False
    expect: Optional[str] = None
    report: Optional[str] = None
    id_field: Optional[str] = None
    format: Optional[str] = None
    delimiter: Optional[str] = None
    encoding: str = "utf-8"
    types: Mapping[str, str] = field(default_factory=dict)
    allow_duplicates: bool = False
    chunk_size: int = 100
    max_concurrency: int = 10
    max_in_flight: int = 4
    timeout_ms: Optional[int] = None
    version: Optional[int] = None
    limit: Optional[int] = None
    max_errors: Optional[str] = None
    dry_run: bool = False
    resume: bool = False
    retry_failed: bool = False
    overwrite: bool = False
    engine: str = INLINE
    progress: str = "auto"
    json: bool = False
    grace: float = 30.0
    alias: str = "default"
    database: str = "default"
    command: list[str] = field(default_factory=list)


class RunCommand(BatchCommand):
    """`manage.py loopai_batch`: rows of a queryset, or of a file that workers share."""

    def __init__(self, options: RunOptions, client: SyncLoopaiClient, stderr: TextIO) -> None:
        super().__init__(options, client, stderr)
        self.options = options

    def run(self) -> int:
        """Do it, and give the exit code. Raises `ConfigurationError` and `LoopaiException`."""
        options = self.options
        mode = mode_of(options.resume, options.retry_failed, options.overwrite)
        plan = plan_of(options, self.client)
        work = Work(plan, options.database)
        if options.dry_run:
            return self.dry_run(plan, work.table)
        if options.engine == CELERY:
            return self.by_celery(work, mode)
        if options.output is not None:
            return self.into_file(plan, work.table, mode)
        return self.into_rows(work, mode)

    def dry_run(self, plan: Plan, rows: Rows) -> int:
        """Say what a run would do, and send and write nothing."""
        total = rows.queryset.count()
        total = total if plan.limit is None else min(total, plan.limit)
        self.plan(plan.task, plan.source, total, plan.chunk_size, plan.max_in_flight)
        for text in plan.save_to:
            name, sign, path = text.partition("=")
            self.say(f"{rows.model._meta.label}.{name} = {path if sign else f'output.{name}, or the whole output'}")
        code = self.show(rows.walk(rows.queryset, PLANNED, None))
        self.say("Nothing was sent or written (--dry-run).")
        return code

    # Into the rows

    def into_rows(self, work: Work, mode: str) -> int:
        """Carry the run out in this process."""
        options, owner = self.options, owner_name()
        run = open_run(work, mode, INLINE, owner, self.say, database=options.database, command=options.command)
        if run is None:
            return ALL_OK
        run.parts.using(options.database).all().delete()  # of another engine; what remains is told by the run itself

        def work_on(stop: Stop) -> Ending:
            made, summary = carry_out(
                run, work, self.client, owner, stop=stop, watchers=self.watchers(), expect=options.expect
            )
            return self.ending(run, summary, made, missed=made.missed, cancelled=run.cancel_requested)

        return self.carry_out(work_on)

    def by_celery(self, work: Work, mode: str) -> int:
        """Have workers carry the run out, and watch them."""
        from ...celery import WATCH_SECONDS, hand_over, look_after

        options = self.options
        run = open_run(work, mode, CELERY, WORKERS, self.say, database=options.database, command=options.command)
        if run is None:
            return ALL_OK
        look = [time.monotonic() + WATCH_SECONDS, run.done]
        gone = run.skipped

        def watch(run: BatchRun) -> None:
            if time.monotonic() >= look[0]:
                look_after(run, int(look[1]))
                look[:] = [time.monotonic() + WATCH_SECONDS, run.done]

        def work_on(stop: Stop) -> Ending:
            hand_over(run, work)
            summary = follow(run, work.plan, self.watchers(), stop, watch)
            made = watched(run, work.plan, whole(run, work.plan))
            missed = run.skipped - gone
            ending = self.ending(run, summary, made, missed=missed, cancelled=run.state == BatchRun.State.CANCELLED)
            # Its times are those at work, whichever commands it took.
            ending.shown = replace(summary, seconds=run.active_seconds)
            if summary.ended in CODES:
                ending.stopped, ending.code = f"Stopped: {run.error}.", CODES[summary.ended]
            if work.plan.output is not None and run.errors and summary.ended == FINISHED:
                folder = folder_of(work.plan.output)
                ending.notes = [
                    *ending.notes,
                    f"{folder} stays for --retry-failed: remove it if none is to be repeated.",
                ]
            return ending

        return self.carry_out(work_on, go_on="The run goes on in Celery's workers: cancel it in the admin.")

    def ending(self, run: BatchRun, summary: Summary, made: Run, *, missed: int = 0, cancelled: bool) -> Ending:
        """How a run that the database knows has ended."""
        filled = " or filled" if self.options.only_empty else ""
        return Ending(
            summary,
            made,
            run.errors,
            interrupted="Cancelled." if cancelled else "Interrupted.",
            interrupted_code=CANCELLED,
            notes=[f"{missed:,} rows were deleted{filled} meanwhile: skipped."] if missed else (),
            facts={"gone_or_filled": missed},
        )

    # Into a file

    def into_file(self, plan: Plan, rows: Rows, mode: str) -> int:
        """Write rows and results to a file, with its journal beside it, as `loopai batch` does."""
        options = self.options
        refuse_workers_output(str(options.output))
        key = str(rows.model._meta.pk.name)
        facts = {"task": plan.task_id, "input": {"name": plan.source}, "mapping": sorted(plan.mapping), "key": key}
        ledger = Ledger(
            str(options.output),
            options.output_format,
            facts,
            mode,
            header=header_of(plan),
            limit=plan.limit,
        )
        try:
            if ledger.finished:
                self.say(f"{ledger.name} is finished already: nothing was sent.")
                return ALL_OK
            return self._fill(plan, rows, key, ledger, facts)
        finally:
            ledger.close()

    def _fill(self, plan: Plan, rows: Rows, key: str, ledger: Ledger, facts: dict[str, Any]) -> int:
        options = self.options
        upper = rows.upper_key(rows.queryset, plan.limit)
        bounds = BatchRun(key_kind=rows.kind, upper_key=upper)
        queryset = bounds.remaining(rows.queryset) if upper is not None else rows.queryset.none()

        def named(values: Any) -> Any:
            for row in values:
                row.columns = {key: row.pk, **row.columns}
                yield row

        made = Run(
            plan.call(),
            named(rows.walk(queryset, plan.chunk_size, None)),
            Reader(from_values(None), ledger.journal),
            Scheduler(plan.limits()),
            Tally(time.monotonic(), Expectation(options.expect) if options.expect else None),
            waits=False,
            ledger=ledger,
            survey=Survey(queryset.count(), []),
            watchers=self.watchers(),
            facts={"name": plan.task, **facts},
        )
        for columns in ledger.earlier() if options.report or options.expect else ():
            made.tally.add_earlier(columns)

        def work_on(stop: Stop) -> Ending:
            with sender(self.client, made.call) as send:
                summary = perform(made, send, stop=stop)
            errors = ledger.journal.errors if ledger.journal is not None else summary.errors
            return Ending(summary, made, errors, facts={"gone_or_filled": 0})

        try:
            return self.carry_out(work_on)
        finally:
            made.reader.close()


def plan_of(options: RunOptions, client: SyncLoopaiClient) -> Plan:
    """The plan, with the mapping that the task's schema suggests where a queryset has none.

    Raises `ConfigurationError`, and the `LoopaiException` where the server cannot be asked.
    """
    if bool(options.queryset) == bool(options.input):
        raise ConfigurationError("rows come from INPUT or from --queryset: name one of the two")
    if options.input and (options.save_to or options.filters or options.only_empty):
        raise ConfigurationError("--save-to, --filter and --only-empty need --queryset: a file has no rows to write to")
    if bool(options.save_to) == bool(options.output) and not options.dry_run:
        raise ConfigurationError("say where results go: --save-to FIELD, or --output FILE")
    if options.only_empty and not options.save_to:
        raise ConfigurationError("--only-empty says which rows --save-to is to fill")
    if options.report is not None:
        check_report(options.report)
    model = model_of(options.queryset) if options.queryset else None  # said before the server is asked
    output = options.output if options.engine == CELERY else None
    kind = None if output is None else kind_of(output, options.output_format)
    task = find_task(client, options.task)
    mapping = tuple(options.map)
    if model is not None and not mapping:
        without = [text.partition("=")[0].strip() for text in options.save_to]
        if options.expect:
            without.append(Expectation(options.expect).column)
        mapping = default_mapping(task.input_schema, columns_of(model), without)
    plan = Plan(
        task=options.task,
        task_id=str(task.id),
        queryset=options.queryset or "",
        save_to=tuple(options.save_to),
        mapping=mapping,
        filters=tuple(options.filters),
        only_empty=options.only_empty,
        chunk_size=options.chunk_size,
        max_concurrency=options.max_concurrency,
        max_in_flight=options.max_in_flight,
        timeout_ms=options.timeout_ms,
        version=options.version,
        max_errors=options.max_errors,
        limit=options.limit,
        alias=options.alias,
        expect=options.expect,
        report=None if options.report is None else os.path.abspath(options.report),
        output=None if output is None else os.path.abspath(output),
        output_format=kind,
    )
    if options.input is not None:
        return _over_file(options, plan)
    return plan if output is None else replace(plan, header=tuple(header_of(plan)))


def _over_file(options: RunOptions, plan: Plan) -> Plan:
    """The plan with its file, which is read through once for the number of rows, their columns and keys that recur."""
    path = "-" if options.input == "-" else os.path.abspath(str(options.input))
    file = GivenFile(path, options.format, options.id_field, options.delimiter, options.encoding, dict(options.types),
                     options.allow_duplicates)  # fmt: skip
    file.refuse_what_workers_cannot_read()
    source = file.open()
    if not source.repeatable:
        raise ConfigurationError(f"{path} can be read only once: name a file that all workers see")
    made = prepare(
        plan.call(),
        source,
        key=file.id_field,
        mapping=plan.mapping,
        expect=plan.expect,
        limits=plan.limits(),
        allow_duplicates=file.allow_duplicates,
        limit=plan.limit,
    )
    made.close()
    found = made.survey or survey(source, None, allow_duplicates=True, limit=plan.limit)
    seen = made.facts["input"]
    file = replace(file, rows=found.rows, bytes=seen["bytes"], digest=seen["digest"])
    return replace(plan, file=file, header=tuple(source.header or found.columns))


def header_of(plan: Plan) -> list[str]:
    """The columns of a queryset's rows in a file."""
    key = str(model_of(plan.queryset)._meta.pk.name)
    return list(dict.fromkeys([key, *InputMapping(plan.mapping).sources, *plan.also]))
