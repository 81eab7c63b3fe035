"""`loopai batch`: the flags. What a batch does with them is `loopai.batch`'s."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from .session import Session, TaskArgument, shared

_RUN, _FORMAT, _AGAIN = "How it runs", "Formats", "Running it again"


@shared
def batch(
    session: Session,
    task: TaskArgument,
    rows: Annotated[
        str,
        typer.Argument(
            metavar="[INPUT]", help="A .csv, .jsonl or .parquet file, also gzipped; - for stdin.", show_default=False
        ),
    ] = "-",
    output: Annotated[
        Optional[str],
        typer.Option("--output", "-o", metavar="FILE", help="Where rows go, - for stdout (-).", show_default=False),
    ] = None,
    mapping: Annotated[
        Optional[list[str]],
        typer.Option(
            "--map", "-m", metavar="NAME=FIELD", help="A member of the input, and the column it is; may be repeated."
        ),
    ] = None,
    id_field: Annotated[
        Optional[str], typer.Option("--id-field", metavar="FIELD", help="The column that names a row (its number).")
    ] = None,
    expect: Annotated[
        Optional[str],
        typer.Option("--expect", metavar="FIELD", help="The column with the right answer: reports accuracy."),
    ] = None,
    report: Annotated[
        Optional[str], typer.Option("--report", metavar="FILE.html", help="Write a page about the run.")
    ] = None,
    chunk_size: Annotated[
        Optional[int],
        typer.Option("--chunk-size", metavar="N", help="Rows a request (100).", rich_help_panel=_RUN),
    ] = None,
    max_concurrency: Annotated[
        Optional[int],
        typer.Option(
            "--max-concurrency",
            metavar="N",
            help="Rows of a request that the server runs at a time (10).",
            rich_help_panel=_RUN,
        ),
    ] = None,
    max_in_flight: Annotated[
        Optional[int],
        typer.Option("--max-in-flight", metavar="N", help="Requests under way at a time (4).", rich_help_panel=_RUN),
    ] = None,
    timeout_ms: Annotated[
        Optional[int],
        typer.Option("--timeout-ms", metavar="MS", help="Milliseconds a row may take (5000).", rich_help_panel=_RUN),
    ] = None,
    version: Annotated[
        Optional[int],
        typer.Option("--version", metavar="N", help="This version, not the active one.", rich_help_panel=_RUN),
    ] = None,
    limit: Annotated[
        Optional[int], typer.Option("--limit", metavar="N", help="At most so many rows.", rich_help_panel=_RUN)
    ] = None,
    max_errors: Annotated[
        Optional[str],
        typer.Option(
            "--max-errors", metavar="N|P%", help="Stop above so many failed rows, or this share.", rich_help_panel=_RUN
        ),
    ] = None,
    progress: Annotated[
        Optional[str],
        typer.Option(
            "--progress",
            metavar="KIND",
            help="auto, plain, json or none: how progress is told on stderr (auto).",
            rich_help_panel=_RUN,
        ),
    ] = None,
    grace: Annotated[
        Optional[float],
        typer.Option(
            "--grace",
            metavar="SECONDS",
            help="How long what is under way may take after Ctrl-C (30).",
            rich_help_panel=_RUN,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.", rich_help_panel=_RUN)
    ] = False,
    edge: Annotated[
        bool,
        typer.Option("--edge", help="Run the task's program here, not on the server.", rich_help_panel=_RUN),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an earlier run ended.", rich_help_panel=_AGAIN)
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Go on, and repeat the rows that failed.", rich_help_panel=_AGAIN)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew, over an output that is there.", rich_help_panel=_AGAIN)
    ] = False,
    journal: Annotated[
        Optional[str],
        typer.Option(
            "--journal", metavar="FILE", help="What to resume from (a file beside the output).", rich_help_panel=_AGAIN
        ),
    ] = None,
    allow_duplicates: Annotated[
        bool,
        typer.Option("--allow-duplicates", help="Let rows share the name that --id-field gives.", rich_help_panel=_RUN),
    ] = False,
    input_format: Annotated[
        Optional[str],
        typer.Option("--format", metavar="KIND", help="csv, jsonl or parquet (by the name).", rich_help_panel=_FORMAT),
    ] = None,
    output_format: Annotated[
        Optional[str],
        typer.Option(
            "--output-format", metavar="KIND", help="csv, jsonl or parquet (by the name).", rich_help_panel=_FORMAT
        ),
    ] = None,
    delimiter: Annotated[
        Optional[str],
        typer.Option("--delimiter", metavar="CHAR", help="Of a CSV file (found).", rich_help_panel=_FORMAT),
    ] = None,
    quotechar: Annotated[
        Optional[str],
        typer.Option(
            "--quotechar", metavar="CHAR", help="Of a CSV file (found); '' for none.", rich_help_panel=_FORMAT
        ),
    ] = None,
    escapechar: Annotated[
        Optional[str],
        typer.Option(
            "--escapechar",
            metavar="CHAR",
            help="Of a CSV file that does not double its quotes.",
            rich_help_panel=_FORMAT,
        ),
    ] = None,
    encoding: Annotated[
        Optional[str],
        typer.Option("--encoding", metavar="NAME", help="Of a CSV file (utf-8).", rich_help_panel=_FORMAT),
    ] = None,
    types: Annotated[
        Optional[list[str]],
        typer.Option(
            "--type",
            metavar="FIELD=TYPE",
            help="What a CSV column holds, if not text; may be repeated.",
            rich_help_panel=_FORMAT,
        ),
    ] = None,
) -> int:
    """Run the rows of a file through a task.

    Exit code 0 if all rows are ok, 1 if rows failed, 2 usage or configuration, 3 stopped by --max-errors, 4 no server
    answers, 130 or 143 interrupted. With --output, --resume goes on.
    """
    from ..shell.command import BatchOptions, run_command

    given: dict[str, Any] = {
        "output": output,
        "map": mapping,
        "id_field": id_field,
        "expect": expect,
        "report": report,
        "chunk_size": chunk_size,
        "max_concurrency": max_concurrency,
        "max_in_flight": max_in_flight,
        "timeout_ms": timeout_ms,
        "version": version,
        "limit": limit,
        "max_errors": max_errors,
        "progress": progress,
        "grace": grace,
        "journal": journal,
        "format": input_format,
        "output_format": output_format,
        "delimiter": delimiter,
        "quotechar": quotechar,
        "escapechar": escapechar,
        "encoding": encoding,
        "types": None if not types else dict(_typed(text) for text in types),
    }
    options = BatchOptions(
        task=task,
        input=rows,
        dry_run=dry_run,
        edge=edge,
        resume=resume,
        retry_failed=retry_failed,
        overwrite=overwrite,
        allow_duplicates=allow_duplicates,
        json=session.as_json,
        **{name: value for name, value in given.items() if value is not None},
    )
    with session.client() as client:
        return run_command(options, client)


def _typed(text: str) -> tuple[str, str]:
    name, equals, kind = text.rpartition("=")
    if not (name and equals and kind):
        raise typer.BadParameter(f"{text!r} is not FIELD=TYPE", param_hint="--type")
    return name, kind
