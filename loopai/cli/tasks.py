"""`loopai tasks`: verbs and flags come from the table in `loopai.shell.tasks`, which does the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

import typer

from ..shell.tasks import VERBS, Verb
from ..shell.text import shown
from . import output
from .failures import OK
from .help import PlainCommand, PlainGroup
from .session import Session, parameters, with_flags

if TYPE_CHECKING:
    from ..models import Task

app = typer.Typer(cls=PlainGroup, help="Create tasks, and show them and their programs.")


@app.callback(invoke_without_command=True)
def tasks(context: typer.Context) -> None:
    """Create tasks, and show them and their programs."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)


def _command(name: str, verb: Verb) -> Callable[..., Any]:
    def run(session: Session, **flags: Any) -> int:
        values = verb.read(flags)
        with session.client() as client:
            answer = verb.run(client, output, session.as_json, values)
        if name == "create" and not session.as_json:
            output.tell(_next_step(answer))
        return OK

    return with_flags(parameters(verb.flags))(run)


def _next_step(task: Task) -> str:
    name = shown(task.name)
    if task.generation is not None and task.generation.status == "failed":
        return f"Add examples with: loopai tasks examples {name} FILE, then: loopai tasks generate {name}"
    return f"Run it with: loopai execute {name} --input '…'"


for _name, _verb in VERBS.items():
    app.command(_name, help=_verb.help, cls=PlainCommand)(_command(_name, _verb))
