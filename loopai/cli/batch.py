"""`loopai batch`: its flags come from the table in `loopai.shell.options`; `loopai.shell.command` does the rest."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Annotated, Any, Optional

import typer

from ..batch.options import FILE
from ..exceptions import OptionError
from ..shell.options import CommandOptions, flags_of, options_of
from .session import Session, TaskArgument, with_flags

InputArgument = Annotated[
    Optional[str],
    typer.Argument(
        metavar="[INPUT]", help="A .csv, .jsonl or .parquet file, also gzipped; - for stdin.", show_default=False
    ),
]


def _parameters() -> Iterator[inspect.Parameter]:
    """Typer's parameters, one for each flag."""
    for flag in flags_of(CommandOptions, [FILE]):
        made = typer.Option(
            *flag.flags,
            metavar=None if flag.switch else flag.info.metavar,
            help=flag.info.help,
            show_default=False,
            rich_help_panel=flag.info.group,
        )
        kind: Any = Optional[list[str]] if flag.info.repeated else Optional[str]
        yield inspect.Parameter(
            flag.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if flag.switch else None,
            annotation=Annotated[bool if flag.switch else kind, made],
        )


@with_flags(list(_parameters()))
def batch(session: Session, task: TaskArgument, rows: InputArgument = None, **flags: Any) -> int:
    """Run the rows of a file through a task.

    Exit code 0 if all rows are ok, 1 if rows failed, 2 usage or configuration, 3 stopped by --max-errors, 4 server
    unreachable, 130 or 143 interrupted. With --output, run again with --resume to continue.
    """
    from ..shell.command import refuse, run_command

    try:
        options = options_of(CommandOptions, {**flags, "task": task, "input": rows, "json": session.as_json})
    except OptionError as error:
        return refuse(error, session.as_json)
    with session.client() as client:
        return run_command(options, client)
