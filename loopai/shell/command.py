"""A whole batch command, from checked options to exit code. Flags are parsed by `loopai` and `manage.py`.

`BatchCommand` is what all of them share, wherever rows come from and go to; `FileCommand` is `loopai batch`.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Callable, Optional, Protocol, TextIO, Union

from ..batch.api import Run, files_of, mode_of, perform, prepare
from ..batch.engine.chunks import BatchCall
from ..batch.engine.scheduler import Limits
from ..batch.engine.stopping import Stop
from ..batch.formats.opening import CsvSource, JsonlSource, ParquetSource, open_source
from ..batch.formats.sinks import NOTHING_KEPT, OutputError
from ..batch.mapping import InputMapping
from ..batch.reporting.progress import Bar, one_line, watcher_for
from ..batch.reporting.quality import Expectation
from ..batch.reporting.report import check_report, write_report
from ..batch.resume.checkpoint import check_apart
from ..batch.resume.prescan import prescan
from ..batch.rows import Row
from ..batch.streams import maker, sender
from ..exceptions import (
    ConfigurationError,
    ConnectionException,
    LoopaiException,
    NotFoundException,
    NotSupportedException,
    ServerException,
    ValidationException,
)
from .exit_codes import (
    ALL_OK,
    FAILED_ROWS,
    LONGEST,
    LONGEST_NAME,
    SERVER_UNREACHABLE,
    STOPPED_BY_ERRORS,
    TO_RESUME,
    USAGE,
    CommandResult,
    told,
)
from .interrupts import Interrupts, interrupts

if TYPE_CHECKING:
    from ..client import SyncLoopaiClient
    from ..models import Task

__all__ = [
    "ALL_OK",
    "FAILED_ROWS",
    "PLANNED",
    "SERVER_UNREACHABLE",
    "STOPPED_BY_ERRORS",
    "USAGE",
    "BatchCommand",
    "BatchOptions",
    "CommandOptions",
    "CommandResult",
    "FileCommand",
    "find_task",
    "run_command",
    "told",
]

PLANNED = 3
"""Rows that `--dry-run` shows."""


@dataclass
class BatchOptions:
    """The flags of `loopai batch`, by their names. `input` and `output` are paths or `-`."""

    task: str
    input: str = "-"
    output: str = "-"
    map: Sequence[str] = ()
    id_field: Optional[str] = None
    expect: Optional[str] = None
    report: Optional[str] = None
    chunk_size: int = 100
    max_concurrency: int = 10
    max_in_flight: int = 4
    timeout_ms: Optional[int] = None
    version: Optional[int] = None
    limit: Optional[int] = None
    dry_run: bool = False
    resume: bool = False
    retry_failed: bool = False
    overwrite: bool = False
    max_errors: Optional[str] = None
    allow_duplicates: bool = False
    progress: str = "auto"
    json: bool = False
    format: Optional[str] = None
    output_format: Optional[str] = None
    delimiter: Optional[str] = None
    quotechar: Optional[str] = None
    escapechar: Optional[str] = None
    encoding: str = "utf-8"
    types: Mapping[str, str] = field(default_factory=dict)
    journal: Optional[str] = None
    grace: float = 30.0
    edge: bool = False


def run_command(
    options: BatchOptions,
    client: SyncLoopaiClient,
    *,
    stdin: Optional[IO[bytes]] = None,
    stdout: Optional[IO[bytes]] = None,
    stderr: Optional[TextIO] = None,
) -> int:
    """Run a batch as the options say, and give the exit code.

    0 all rows ok · 1 finished with failed rows · 2 usage or configuration · 3 stopped by `max_errors` · 4 the server
    cannot be reached · 130 / 143 interrupted by SIGINT / SIGTERM, resumable. Rows go to `options.output` (to `stdout`
    for `-`); progress, summary and errors to `stderr`.
    """
    command = FileCommand(options, client, stderr)
    try:
        if options.edge:
            from ..edge import at_edge

            command.client = at_edge(client)
        return command.run(stdin, stdout)
    except ConfigurationError as error:
        return command.fail(USAGE, str(error))
    except OutputError as error:
        return command.fail(USAGE, str(error))
    except ValidationException as error:
        return command.fail(USAGE, str(error))
    except (ConnectionException, ServerException) as error:
        return command.fail(SERVER_UNREACHABLE, str(error))
    except LoopaiException as error:
        return command.fail(USAGE, str(error))


class CommandOptions(Protocol):
    """What `BatchCommand` asks of a command's options."""

    report: Optional[str]
    max_errors: Optional[str]
    progress: str
    json: bool
    grace: float


class BatchCommand:
    """What every batch command shares: its voice, signals, progress, summary, report and exit code.

    It speaks on `stderr`, by default the process's, where lines come above a bar that is being drawn.
    """

    def __init__(self, options: CommandOptions, client: SyncLoopaiClient, stderr: Optional[TextIO] = None) -> None:
        self._shared = options
        self._stderr = stderr
        self.client = client
        self._drawn: list[Bar] = []

    @property
    def stderr(self) -> TextIO:
        """Where it speaks."""
        # Looked up each time: while a bar is drawn, Rich has a stream of its own there, which writes above the bar.
        return self._stderr if self._stderr is not None else sys.stderr

    def check(self) -> None:
        """Raise `ConfigurationError` for a grace period that is none, or a report that cannot be written."""
        grace, report = self._shared.grace, self._shared.report
        if not grace >= 0:
            raise ConfigurationError(f"--grace must be seconds from 0, not {grace:g}")
        if report is not None:
            check_report(report)

    def say(self, text: str) -> None:
        """Tell people."""
        # Rows go on where nobody hears of them any more, as after `2>&1 | head`.
        with contextlib.suppress(BrokenPipeError):
            print(text, file=self.stderr, flush=True)  # the command's own voice

    def fail(self, code: int, text: str) -> int:
        """Tell an error, and give its exit code."""
        if self._shared.json:
            text = json.dumps({"error": text, "exit_code": code}, ensure_ascii=False)
        else:
            text = f"loopai: {text}"
        self.say(text)
        return code

    def watchers(self, progress: Optional[str] = None) -> list[Any]:
        """What shows how the run goes, as `--progress` (or `progress`) says; `carry_out` puts it away."""
        made = watcher_for(progress or self._shared.progress, self.stderr)
        self._drawn += [watcher for watcher in made if isinstance(watcher, Bar)]
        return made

    def plan(self, task: str, source: str, rows: Optional[int], chunk_size: int, max_in_flight: int) -> None:
        """Say what a run would send."""
        self.say(f"Task {task} at {self.client.base_url}: {source}, {'?' if rows is None else f'{rows:,}'} rows")
        if rows is not None:
            requests = -(-rows // chunk_size)
            self.say(
                f"{requests:,} request{'s' if requests != 1 else ''} of at most {chunk_size} rows,"
                f" {max_in_flight} at a time"
            )

    def show(self, rows: Iterable[Row]) -> int:
        """Say what the first rows would be sent as, and give the exit code of a dry run."""
        shown = list(islice(rows, PLANNED))
        for row in shown:
            text = row.error or json.dumps(row.input, ensure_ascii=False, default=str)
            self.say(f"{one_line(row.key, LONGEST_NAME)}: {one_line(text, LONGEST)}")
        return FAILED_ROWS if any(row.error is not None for row in shown) else ALL_OK

    def carry_out(self, work: Callable[[Stop], CommandResult], *, go_on: str = TO_RESUME) -> int:
        """Do the work with signals heeded, say how it ended, and give the exit code.

        The first SIGINT or SIGTERM asks the work to stop, which then ends as ever; a second ends it where it stands,
        and `go_on` says what can be done then. Raises what the work raises, and `OutputError` for the report, once
        the summary was said.
        """
        stop = Stop(self._shared.grace)
        try:
            with interrupts(stop, self.say) as came:
                ending = work(stop)
        except KeyboardInterrupt:
            self._put_away()
            self.say(f"Ended at once. {go_on}")
            return came.exit_code
        finally:
            self._put_away()
        return self._end(ending, came)

    def _put_away(self) -> None:
        while self._drawn:
            self._drawn.pop().close()

    def _end(self, ending: CommandResult, came: Interrupts) -> int:
        report = self._shared.report
        problem: Optional[OutputError] = None
        if report is not None:
            try:
                write_report(report, ending.run, ending.shown or ending.summary)
            except OutputError as error:
                problem = error
        self._tell(ending)
        if problem is not None:
            raise problem
        if report is not None and not self._shared.json:
            self.say(f"Report: {report}")
        return ending.exit_code(came)

    def _tell(self, ending: CommandResult) -> None:
        """The summary, as lines or as JSON."""
        summary = ending.summary
        if self._shared.json:
            self.say(json.dumps({"summary": {**summary.to_dict(), **ending.facts}}, ensure_ascii=False))
            return
        for line in (*told(summary), *ending.notes):
            self.say(line)
        why = ending.why(self._shared.max_errors)
        if why is not None:
            self.say(f"{why} {ending.go_on}")
        elif ending.errors and ending.retry is not None:
            self.say(ending.retry)


class FileCommand(BatchCommand):
    """`loopai batch`: rows of a file, or of standard input, into another."""

    def __init__(self, options: BatchOptions, client: SyncLoopaiClient, stderr: Optional[TextIO] = None) -> None:
        super().__init__(options, client, stderr)
        self.options = options

    def run(self, stdin: Optional[IO[bytes]], stdout: Optional[IO[bytes]]) -> int:
        """Do it, and give the exit code. Raises `ConfigurationError`, `OutputError` and `LoopaiException`."""
        options = self.options
        mode = mode_of(options.resume, options.retry_failed, options.overwrite)
        limits = Limits(options.chunk_size, options.max_in_flight, max_errors=options.max_errors)
        self.check()
        if options.input == "-" and stdin is None and sys.stdin is None:
            raise ConfigurationError("standard input is closed: name a file")
        source = open_source(
            options.input,
            options.format,
            delimiter=options.delimiter,
            quotechar=options.quotechar,
            escapechar=options.escapechar,
            types=options.types,
            encoding=options.encoding,
            stdin=stdin,
        )
        to_stdout = options.output == "-"
        named = files_of(source, None if to_stdout else options.output, options.journal)
        check_apart({**named, "the report": options.report})
        if options.dry_run:
            return self.dry_run(source)
        if to_stdout and stdout is None and sys.stdout is None:
            raise ConfigurationError("standard output is closed: name --output FILE")
        task_id = str(find_task(self.client, options.task).id)
        if options.version is not None:
            self.check_version(task_id, options.version)
        call = BatchCall(task_id, options.max_concurrency, options.timeout_ms, options.version)
        output: Union[str, IO[bytes]] = options.output
        if to_stdout:
            output = stdout if stdout is not None else open(sys.stdout.fileno(), "wb", 0, closefd=False)  # noqa: SIM115
        # Rows and progress on one terminal would be drawn over each other.
        quiet = to_stdout and options.progress == "auto" and self.stderr.isatty()
        run = prepare(
            call,
            source,
            output=output,
            output_format=options.output_format,
            key=options.id_field,
            mapping=options.map,
            mode=mode,
            journal=options.journal,
            expect=options.expect,
            report=options.report is not None,
            limits=limits,
            allow_duplicates=options.allow_duplicates,
            limit=options.limit,
            watchers=self.watchers("none" if quiet else None),
        )
        run.facts["name"] = options.task
        try:
            return self.perform(run, mode)
        finally:
            run.close()

    def check_version(self, task_id: str, version: int) -> None:
        """See that the task has that version: without it every single row would fail."""
        try:
            self.client.get_artifact(task_id, version)
        except NotFoundException as error:
            raise ConfigurationError(
                f"--version: task {self.options.task!r} has no version {version}: {error}"
            ) from None

    def dry_run(self, source: Union[JsonlSource, CsvSource, ParquetSource]) -> int:
        """Say what a run would do, and send nothing."""
        options = self.options
        expectation = Expectation(options.expect) if options.expect else None
        mapping = InputMapping(options.map, [expectation.column] if expectation else ())
        if source.header is not None:
            mapping.check(source.header)
        rows = None
        if source.repeatable:
            found = prescan(source, options.id_field, allow_duplicates=options.allow_duplicates, limit=options.limit)
            rows = found.rows
        make = maker(source, options.id_field, mapping)
        self.plan(options.task, source.name, rows, options.chunk_size, options.max_in_flight)
        code = self.show(make(record, number) for number, record in enumerate(source, 1))
        self.say("Nothing was sent (--dry-run).")
        return code

    def perform(self, run: Run, mode: str) -> int:
        """Run, and say how it went."""
        ledger = run.ledger
        if run.finished_before and ledger is not None:
            return self.finished(run, ledger.name)
        journal = ledger.journal if ledger is not None else None
        if ledger is not None and journal is not None and mode in {"resume", "retry_failed"}:
            if not ledger.resumed:
                self.say(f"Nothing to resume at {journal.path}: starting from the first row.")
            elif journal.dropped:
                self.say(f"{journal.dropped:,} bytes of an unfinished record were cut off the journal.")
        go_on = TO_RESUME
        if journal is None:
            go_on = NOTHING_KEPT

        def work(stop: Stop) -> CommandResult:
            with sender(self.client, run.call, run.scheduler) as send:
                summary = perform(run, send, stop=stop)
            # Not the journal of before: one that rows were dropped from is another.
            kept = ledger.journal if ledger is not None else None
            if kept is None:
                return CommandResult(summary, run, run.tally.errors, go_on=go_on, retry=None)
            return CommandResult(summary, run, kept.errors)

        return self.carry_out(work, go_on=go_on)

    def finished(self, run: Run, name: str) -> int:
        """There is nothing to send; accuracy and report are made of the rows that are there."""
        options = self.options
        if not options.json:
            self.say(f"{name} is finished already: nothing was sent.")
            if options.report is None and options.expect is None:
                return ALL_OK
        run.watchers = ()
        return self._end(CommandResult(run.end(), run, 0), Interrupts())


def find_task(client: SyncLoopaiClient, task: str) -> Task:
    """The task of that id or name. Raises `ConfigurationError` where the server has none."""
    try:
        return client.get_task(task)
    except NotFoundException as error:
        raise ConfigurationError(f"the server at {client.base_url} has no task {task!r}: {error}") from None
    except ValidationException as error:
        unknown = error
    try:
        return client.get_task_by_name(task)
    except NotFoundException:
        raise ConfigurationError(f"the server at {client.base_url} has no task named {task!r}") from None
    except NotSupportedException:
        raise ConfigurationError(str(unknown)) from None
