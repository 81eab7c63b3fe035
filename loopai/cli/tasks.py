"""`loopai tasks`: make tasks, look at them and at their programs, and give them programs of one's own."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Any, Final, Optional

import typer

from ..programs.languages import language_of_file
from . import output
from .failures import OK, USAGE, Failed
from .inputs import STDIN, parsed, read_examples, read_schema, read_text
from .session import Session, TaskArgument, shared

if TYPE_CHECKING:
    from ..models import ProgramArtifact, Task

app = typer.Typer(help="Make tasks, look at them and at their programs.")

MEMBERS: Final = (
    "name",
    "description",
    "input_schema",
    "output_schema",
    "examples",
    "accuracy_target",
    "latency_target_ms",
    "sampling_rate",
)
"""What a task is made of: the parameters of the client's `create_task`."""

NEEDED: Final = MEMBERS[:4]

ASSIGNED: Final = frozenset({"id", "active_version", "total_versions", "created_at", "updated_at"})
"""What the server gives a task: in a file that `tasks get --json` wrote, and nothing to create one from."""

_NARROW = 90
"""Columns below which a list of tasks has no dates."""


@app.callback(invoke_without_command=True)
def tasks(context: typer.Context) -> None:
    """Make tasks, look at them and at their programs."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)


@app.command("list")
@shared
def list_tasks(session: Session) -> int:
    """List the server's tasks, oldest first.

    An addition of the embedded server; others do not have it.
    """
    with session.client() as client, output.waiting("Asking for tasks"):
        tasks = client.list_tasks()
    if session.as_json:
        output.show_json(tasks)
    elif not tasks:
        output.tell("The server has no tasks. Make one with: loopai tasks create --help")
    else:
        wide = output.width() >= _NARROW
        columns: dict[str, dict[str, Any]] = {
            "name": {},
            "id": {"no_wrap": True},
            "version": {"justify": "right"},
            **({"made": {"no_wrap": True}} if wide else {}),
        }
        rows = ((task.name, task.id, _version(task), *((_moment(task.created_at),) if wide else ())) for task in tasks)
        output.show(output.listing(columns, rows))
    return OK


@app.command("get")
@shared
def get_task(session: Session, task: TaskArgument) -> int:
    """Show a task."""
    with session.client() as client, output.waiting("Asking for the task"):
        details = client.get_task(task)
    if session.as_json:
        output.show_json(details)
    else:
        output.show(_described(details))
    return OK


@app.command("create")
@shared
def create_task(
    session: Session,
    file: Annotated[
        Optional[str],
        typer.Option("--file", "-f", metavar="FILE", help="A task as a JSON file, - for stdin; flags go before it."),
    ] = None,
    name: Annotated[Optional[str], typer.Option("--name", metavar="NAME", help="What it is called.")] = None,
    description: Annotated[
        Optional[str], typer.Option("--description", metavar="TEXT", help="What it is to do.")
    ] = None,
    input_schema: Annotated[
        Optional[str],
        typer.Option("--input-schema", metavar="JSON|FILE", help="The JSON schema of its inputs."),
    ] = None,
    output_schema: Annotated[
        Optional[str],
        typer.Option("--output-schema", metavar="JSON|FILE", help="The JSON schema of its outputs."),
    ] = None,
    examples: Annotated[
        Optional[str],
        typer.Option(
            "--examples",
            metavar="FILE",
            help='Lines of {"input": …, "output": …}, or a JSON array of them; also gzipped, - for stdin.',
        ),
    ] = None,
    accuracy_target: Annotated[
        Optional[float], typer.Option("--accuracy-target", metavar="SHARE", help="From 0 to 1.")
    ] = None,
    latency_target_ms: Annotated[
        Optional[int], typer.Option("--latency-target-ms", metavar="MS", help="Milliseconds an execution may take.")
    ] = None,
    sampling_rate: Annotated[
        Optional[float],
        typer.Option("--sampling-rate", metavar="SHARE", help="Share of executions that is validated, from 0 to 1."),
    ] = None,
) -> int:
    """Create a task, from a file, from flags, or from both."""
    made = {} if file is None else _from_file(file)
    given = {
        "name": name,
        "description": description,
        "input_schema": None if input_schema is None else read_schema(input_schema, "--input-schema"),
        "output_schema": None if output_schema is None else read_schema(output_schema, "--output-schema"),
        "examples": None if examples is None else read_examples(examples, "--examples"),
        "accuracy_target": accuracy_target,
        "latency_target_ms": latency_target_ms,
        "sampling_rate": sampling_rate,
    }
    made.update({member: value for member, value in given.items() if value is not None})
    missing = [f"--{member.replace('_', '-')}" for member in NEEDED if made.get(member) is None]
    if missing:
        raise Failed(f"a task needs {', '.join(missing)}, or a --file that has it", USAGE)
    with session.client() as client, output.waiting("Creating the task"):
        task = client.create_task(**made)
    if session.as_json:
        output.show_json(task)
    else:
        output.show(_described(task))
        for warning in (task.model_extra or {}).get("warnings", ()):
            output.tell(f"Warning: {output.shown(warning)}")
        output.tell(f"Run it with: loopai execute {output.shown(task.name)} --input '…'")
    return OK


@app.command("push")
@app.command("push-program", help="The same as push.")
@shared
def push_program(
    session: Session,
    task: TaskArgument,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The program, - for stdin.", show_default=False)],
    draft: Annotated[bool, typer.Option("--draft", help="Leave the version that is active.")] = False,
    language: Annotated[
        Optional[str], typer.Option(help="python or typescript. Default: by the file's suffix.", show_default=False)
    ] = None,
) -> int:
    """Give a task a program of your own, as its next version: Python, or TypeScript (.ts, .js).

    It defines main(input). An addition of the embedded server; others do not have it.
    """
    code = read_text(file, "FILE")
    language = language or language_of_file("" if file == STDIN else file)
    with session.client() as client, output.waiting("Sending the program"):
        program = client.push_program(task, code, language, activate=not draft)
    if session.as_json:
        output.show_json(program)
    else:
        output.show(output.facts([("version", program.version), ("status", program.status), ("id", program.id)]))
    return OK


@app.command("artifacts")
@shared
def artifacts(
    session: Session,
    task: TaskArgument,
    code: Annotated[
        Optional[int], typer.Option("--code", metavar="VERSION", min=1, help="Write the source of this version.")
    ] = None,
) -> int:
    """List a task's programs by version, or write the source of one."""
    with session.client() as client, output.waiting("Asking for programs"):
        if code is None:
            client.get_task(task)  # of a task that is not there the server lists no programs, as if it had none
            programs = client.list_artifacts(task)
        else:
            program = client.get_artifact(task, code)
    if code is not None:
        if session.as_json:
            output.show_json(program)
        else:
            output.show_raw(program.code)
    elif session.as_json:
        output.show_json(programs)
    elif not programs:
        output.tell("The task has no program yet: the first execution has one made from the task's examples.")
    else:
        output.show(_programs(programs))
    return OK


def _from_file(name: str) -> dict[str, Any]:
    from ..models import python_name

    value = parsed(read_text(name, "--file"), "--file", name)
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{name} holds no JSON object", param_hint="--file")
    made = {}
    for given, content in value.items():
        member = python_name(given)
        if member in MEMBERS:
            made[member] = content
        elif member not in ASSIGNED:
            close = difflib.get_close_matches(member, MEMBERS, n=1)
            hint = f": did you mean {close[0]}?" if close else f"; it may have {', '.join(MEMBERS)}"
            raise typer.BadParameter(f"{name} has {given!r}, which no task has{hint}", param_hint="--file")
    return made


def _described(task: Task) -> Any:
    return output.facts(
        [
            ("name", task.name),
            ("id", task.id),
            ("description", task.description),
            ("version", _version(task)),
            ("examples", f"{len(task.examples):,}"),
            ("input schema", output.json_text(task.input_schema)),
            ("output schema", output.json_text(task.output_schema)),
            ("accuracy target", task.accuracy_target),
            ("latency target", f"{task.latency_target_ms} ms"),
            ("sampling rate", task.sampling_rate),
            ("made", _moment(task.created_at)),
            ("changed", None if task.updated_at is None else _moment(task.updated_at)),
        ]
    )


def _programs(programs: list[ProgramArtifact]) -> Any:
    right = {"justify": "right"}
    columns: dict[str, dict[str, Any]] = {
        "version": right,
        "status": {},
        "language": {},
        "lines": right,
        "score": right,
        "made": {"no_wrap": True},
    }
    rows = (
        (
            program.version,
            output.state(program.status, True) if program.status == "active" else program.status,
            program.language,
            f"{len(program.code.splitlines()):,}",
            f"{program.confidence_score:.3f}",
            _moment(program.created_at),
        )
        for program in programs
    )
    return output.listing(columns, rows)


def _version(task: Task) -> str:
    if not task.total_versions:
        return "none yet"
    return f"{'none' if task.active_version is None else task.active_version} of {task.total_versions}"


def _moment(moment: Any) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"
