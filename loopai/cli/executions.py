"""`loopai execute`: one input through a task's program."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from .._core.limits import PROGRAM_TIMEOUT_MS
from ..shell.inputs import read_json
from ..shell.text import json_text
from . import output
from .failures import FAILED, OK
from .session import Session, TaskArgument, shared

HINT = """; a text needs its own quotes: --input '"text"'"""


@shared
def execute(
    session: Session,
    task: TaskArgument,
    given: Annotated[
        str,
        typer.Option("--input", "-i", metavar="JSON|-", help="The input as JSON, - for stdin.", show_default=False),
    ],
    version: Annotated[
        Optional[int],
        typer.Option("--version", metavar="N", min=1, help="Version of the program, instead of the active one."),
    ] = None,
    timeout_ms: Annotated[
        Optional[int],
        typer.Option(
            "--timeout-ms",
            metavar="MS",
            min=1,
            help=f"Time limit for the program, in milliseconds ({PROGRAM_TIMEOUT_MS}).",
        ),
    ] = None,
    force_validation: Annotated[
        bool, typer.Option("--force-validation", help="Validate this execution even if it is not sampled.")
    ] = False,
) -> int:
    """Run a task's program on one input.

    Exit code 1 if the program failed. Many inputs: loopai batch.
    """
    try:
        value = read_json(given, HINT)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--input") from None
    with session.client() as client, output.waiting("Running the program; for a new task, making it first"):
        result = client.execute(task, value, version, timeout_ms, force_validation, raise_on_error=False)
    if session.as_json:
        output.show_json(result)
    else:
        output.show(
            output.facts(
                [
                    ("output", json_text(result.output) if result.succeeded else None),
                    ("status", output.state(result.status, result.succeeded)),
                    ("confidence", None if result.confidence is None else f"{result.confidence:.3f}"),
                    ("took", f"{result.latency_ms:.3g} ms"),
                    ("version", result.version),
                    ("execution", result.execution_id),
                ]
            )
        )
    if result.succeeded:
        return OK
    output.complain(f"the program failed: {result.error_message or result.status}", FAILED, as_json=session.as_json)
    return FAILED
