"""`loopai batch`: its flags come from the table in `loopai.shell.options`; `loopai.shell.command` does the rest."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from ..batch.options import FILE
from ..exceptions import OptionError
from ..shell.options import CommandOptions, flags_of, options_of
from .session import Session, TaskArgument, parameters, with_flags

InputArgument = Annotated[
    Optional[str],
    typer.Argument(
        metavar="INPUT",
        help="A .csv, .jsonl, .json, .parquet or .xlsx file, which may be compressed; - for stdin.",
        show_default=False,
    ),
]


@with_flags(parameters(flags_of(CommandOptions, [FILE])))
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
