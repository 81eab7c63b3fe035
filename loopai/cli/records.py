"""`loopai executions`: list, export and delete the executions that the embedded server recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Optional

import typer

from ..shell.text import json_text, shown
from . import output
from .failures import OK, USAGE, Failed
from .help import PlainCommand, PlainGroup
from .session import Session, TaskArgument, among, shared

if TYPE_CHECKING:
    from ..client import SyncLoopaiClient
    from ..models import ExecutionRecord

PAGE = 1000
"""Executions per request: the most that the server returns."""

STATUSES: Final = ("success", "error")

COLUMNS: Final[Mapping[str, Mapping[str, Any]]] = {
    "executed": {"no_wrap": True},
    "version": {"justify": "right"},
    "status": {},
    "input": {},
    "output": {},
}

app = typer.Typer(cls=PlainGroup, help="List, export and delete recorded executions (embedded server).")
StatusOption = Annotated[
    Optional[str],
    typer.Option(
        "--status",
        metavar="success|error",
        help="Only executions with this status.",
        show_default=False,
        autocompletion=among(STATUSES),
    ),
]


@app.callback(invoke_without_command=True)
def executions(context: typer.Context) -> None:
    """List, export and delete recorded executions (embedded server)."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)


def list_(
    session: Session,
    task: TaskArgument,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=PAGE, help="Most executions to list.")] = 20,
    status: StatusOption = None,
) -> int:
    """List a task's recorded executions, newest first."""
    with session.client() as client, output.waiting("Reading executions"):
        found = client.list_executions(task, limit, status=_checked(status))
    if session.as_json:
        output.show_json([record.model_dump(mode="json") for record in found])
        return OK
    rows: list[list[Any]] = [
        [
            None if record.executed_at is None else f"{record.executed_at:%Y-%m-%d %H:%M:%S}",
            record.version,
            output.state(record.status, record.succeeded),
            shown(json_text(record.input)),
            shown(json_text(record.output) if record.succeeded else record.error_message or ""),
        ]
        for record in found
    ]
    output.show(output.listing(COLUMNS, rows))
    return OK


def export(session: Session, task: TaskArgument, status: StatusOption = None) -> int:
    """Write all of a task's recorded executions as JSON lines, newest first."""
    wanted = _checked(status)
    with session.client() as client:
        for record in _every(client, task, wanted):
            output.show_raw(f"{record.model_dump_json()}\n")
    return OK


def delete(
    session: Session,
    older_than_days: Annotated[
        int,
        typer.Option(
            "--older-than-days", metavar="DAYS", min=0, help="Age in days; 0 deletes all.", show_default=False
        ),
    ],
) -> int:
    """Delete recorded executions of all tasks by age."""
    with session.client() as client, output.waiting("Deleting executions"):
        deleted = client.delete_executions(older_than_days).deleted
    if session.as_json:
        output.show_json({"deleted": deleted})
    else:
        output.tell(f"{deleted:,} executions deleted.")
    return OK


def _every(client: SyncLoopaiClient, task: str, status: Optional[str]) -> Iterator[ExecutionRecord]:
    """Yield all executions, page by page: there may be too many for one reply or for memory."""
    before: Optional[str] = None
    while True:
        page = client.list_executions(task, PAGE, before, status)
        yield from page
        before = None if page.reply is None else page.reply.headers.get("x-next-cursor")
        if before is None:
            return


def _checked(status: Optional[str]) -> Optional[str]:
    if status not in {None, *STATUSES}:
        raise Failed(f"--status must be success or error, not {status!r}", USAGE)
    return status


app.command("list", cls=PlainCommand)(shared(list_))
app.command(cls=PlainCommand)(shared(export))
app.command(cls=PlainCommand)(shared(delete))
