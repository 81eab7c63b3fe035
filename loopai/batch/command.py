"""A whole batch command, from checked options to exit code. Flags are parsed by `loopai` and `manage.py`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, TYPE_CHECKING, Optional, TextIO, Union

from ..exceptions import (
    ConfigurationError,
    ConnectionException,
    LoopaiException,
    NotFoundException,
    NotSupportedException,
    ServerException,
    ValidationException,
)
from .chunks import BatchCall
from .interrupts import interrupts
from .mapping import InputMapping
from .progress import watcher_for
from .quality import Expectation
from .report import write_report
from .runs import Run, mode_of, perform, prepare
from .scheduler import FATAL, INTERRUPTED, TOO_MANY_ERRORS, UNREACHABLE, Limits
from .sinks import OutputError
from .sources import CsvSource, JsonlSource, ParquetSource, open_source
from .stopping import Stop
from .streams import maker, sender
from .surveying import survey
from .tally import Summary

if TYPE_CHECKING:
    from ..client import SyncLoopaiClient

ALL_OK = 0
FAILED_ROWS = 1
USAGE = 2
STOPPED_BY_ERRORS = 3
SERVER_UNREACHABLE = 4

_PLANNED = 3
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
    command = _Command(options, client, stderr if stderr is not None else sys.stderr)
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


class _Command:
    """One command: what it was told, and where it speaks."""

    def __init__(self, options: BatchOptions, client: SyncLoopaiClient, stderr: TextIO) -> None:
        self.options = options
        self.client = client
        self.stderr = stderr

    def say(self, text: str) -> None:
        print(text, file=self.stderr, flush=True)  # the command's own voice

    def fail(self, code: int, text: str) -> int:
        if self.options.json:
            text = json.dumps({"error": text, "exit_code": code}, ensure_ascii=False)
        else:
            text = f"loopai: {text}"
        self.say(text)
        return code

    def run(self, stdin: Optional[IO[bytes]], stdout: Optional[IO[bytes]]) -> int:
        options = self.options
        mode = mode_of(options.resume, options.retry_failed, options.overwrite)
        limits = Limits(options.chunk_size, options.max_in_flight, max_errors=options.max_errors)
        source = open_source(
            options.input,
            options.format,
            delimiter=options.delimiter,
            types=options.types,
            encoding=options.encoding,
            stdin=stdin,
        )
        if options.dry_run:
            return self.dry_run(source)
        call = BatchCall(self.task_id(), options.max_concurrency, options.timeout_ms, options.version)
        to_stdout = options.output == "-"
        output: Union[str, IO[bytes]] = options.output
        if to_stdout:
            output = stdout if stdout is not None else open(sys.stdout.fileno(), "wb", 0, closefd=False)  # noqa: SIM115
        # Rows and progress on one terminal would be drawn over each other.
        progress = "none" if to_stdout and options.progress == "auto" and self.stderr.isatty() else options.progress
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
            watchers=watcher_for(progress, self.stderr),
        )
        run.facts["name"] = options.task
        try:
            return self.perform(run, mode)
        finally:
            run.close()

    def task_id(self) -> str:
        """The task's id, once the server has said that it knows it."""
        task = self.options.task
        try:
            return str(self.client.get_task(task).id)
        except NotFoundException as error:
            raise ConfigurationError(f"the server at {self.client.base_url} has no task {task!r}: {error}") from None
        except ValidationException as error:
            unknown = error
        try:
            return str(self.client.get_task_by_name(task).id)
        except NotFoundException:
            raise ConfigurationError(f"the server at {self.client.base_url} has no task named {task!r}") from None
        except NotSupportedException:
            raise ConfigurationError(str(unknown)) from None

    def dry_run(self, source: Union[JsonlSource, CsvSource, ParquetSource]) -> int:
        """Say what a run would do, and send nothing."""
        options = self.options
        expectation = Expectation(options.expect) if options.expect else None
        mapping = InputMapping(options.map, [expectation.column] if expectation else ())
        if source.header is not None:
            mapping.check(source.header)
        rows = None
        if source.repeatable:
            found = survey(source, options.id_field, allow_duplicates=options.allow_duplicates, limit=options.limit)
            rows = found.rows
        make = maker(source, options.id_field, mapping)
        shown = [make(record, number) for number, record in enumerate(islice(source, _PLANNED), 1)]
        requests = None if rows is None else -(-rows // options.chunk_size)
        self.say(
            f"Task {options.task} at {self.client.base_url}: {source.name}, {rows if rows is not None else '?'} rows"
        )
        if requests is not None:
            self.say(f"{requests} requests of at most {options.chunk_size} rows, {options.max_in_flight} at a time")
        for row in shown:
            self.say(f"{row.key}: {row.error or json.dumps(row.input, ensure_ascii=False, default=str)[:400]}")
        self.say("Nothing was sent (--dry-run).")
        return ALL_OK if all(row.error is None for row in shown) else FAILED_ROWS

    def perform(self, run: Run, mode: str) -> int:
        """Run, and say how it went."""
        ledger = run.ledger
        if run.finished_before and ledger is not None:
            self.say(f"{ledger.name} is finished already: nothing was sent.")
            return ALL_OK
        if ledger is not None and ledger.journal is not None and mode in {"resume", "retry_failed"}:
            if not ledger.resumed:
                self.say(f"Nothing to resume at {ledger.journal.path}: starting from the first row.")
            elif ledger.journal.dropped:
                self.say(f"{ledger.journal.dropped:,} bytes of an unfinished record were cut off the journal.")
        stop = Stop(self.options.grace)
        try:
            with interrupts(stop, self.say) as came, sender(self.client, run.call) as send:
                summary = perform(run, send, stop=stop)
        except KeyboardInterrupt:
            self.say(f"Ended at once. {self.how_to_go_on(run)}")
            return came.exit_code
        if self.options.report is not None:
            write_report(self.options.report, run, summary)
        self.tell(run, summary)
        return self.exit_code(run, summary, came.exit_code)

    def how_to_go_on(self, run: Run) -> str:
        ledger = run.ledger
        if ledger is None or ledger.journal is None:
            return "Nothing was kept to resume from: name --output FILE, or --journal FILE."
        return "Run again with --resume to go on."

    def exit_code(self, run: Run, summary: Summary, interrupted: int) -> int:
        failed = run.tally.errors
        if run.ledger is not None and run.ledger.journal is not None:
            failed = run.ledger.journal.errors
        codes = {
            INTERRUPTED: interrupted,
            TOO_MANY_ERRORS: STOPPED_BY_ERRORS,
            UNREACHABLE: SERVER_UNREACHABLE,
            FATAL: USAGE,
        }
        return codes.get(summary.ended, FAILED_ROWS if failed else ALL_OK)

    def tell(self, run: Run, summary: Summary) -> None:
        """The summary on stderr."""
        if self.options.json:
            self.say(json.dumps({"summary": summary.to_dict()}, ensure_ascii=False))
            return
        for line in told(summary):
            self.say(line)
        why = {
            INTERRUPTED: "Interrupted.",
            TOO_MANY_ERRORS: f"Stopped: more errors than --max-errors {self.options.max_errors} allows.",
            UNREACHABLE: f"Stopped: the server cannot be reached ({run.scheduler.error}).",
            FATAL: f"Stopped: the server refused the run ({run.scheduler.error}).",
        }.get(summary.ended)
        if why is not None:
            self.say(f"{why} {self.how_to_go_on(run)}")
        elif summary.errors and run.ledger is not None and run.ledger.journal is not None:
            self.say("Run again with --retry-failed to repeat the rows that failed.")
        if self.options.report is not None:
            self.say(f"Report: {self.options.report}")


def told(summary: Summary) -> list[str]:
    """The summary as lines for people."""
    parts = [f"{summary.ok:,} ok", f"{summary.errors:,} errors"]
    if summary.cancelled:
        parts.append(f"{summary.cancelled:,} cancelled")
    if summary.skipped:
        parts.append(f"{summary.skipped:,} from before")
    lines = [f"{', '.join(parts)} in {summary.seconds:.1f} s ({summary.rows_per_second:,.0f} rows/s)"]
    p50, p95 = summary.latency_ms.get("p50"), summary.latency_ms.get("p95")
    if p50 is not None and p95 is not None:
        lines.append(f"Latency at the server: half of the rows within {p50:.2g} ms, 95 % within {p95:.2g} ms")
    lines += [f"  {count:,} × {kind}" for kind, count in list(summary.errors_by_kind.items())[:5]]
    quality = summary.quality
    if quality is not None and quality["accuracy"] is not None:
        lines.append(f"Accuracy {quality['accuracy']:.4f} over {quality['rows']:,} rows")
        for label, scores in list(quality["classes"].items())[:20]:
            shares = [
                f"{name} {'–' if scores[name] is None else format(scores[name], '.3f')}"
                for name in ("precision", "recall")
            ]
            lines.append(f"  {label}: {', '.join(shares)}, {scores['rows']:,} rows")
    return lines
