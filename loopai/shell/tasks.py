"""`loopai tasks` and `manage.py loopai_tasks`: their verbs, with flags, action and output of each.

Both parsers are derived from `VERBS`. To add a verb or a flag: an entry there.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Final, Optional, Protocol, Union

from ..batch.options import OptionInfo, whole
from ..exceptions import ExecutionException, LoopaiException, OptionError
from ..programs.languages import LANGUAGES, language, language_of_file
from ..programs.program import UnsupportedLanguage
from .inputs import STDIN, parsed, read_examples, read_schema, read_text
from .options import Flag
from .text import json_text, shown

if TYPE_CHECKING:
    from ..client import SyncLoopaiClient
    from ..models import GenerationState, OpenQuestion, ProgramArtifact, Task

NEEDED: Final = ("name", "description", "input_schema", "output_schema")
MEMBERS: Final = (*NEEDED, "examples", "accuracy_target", "latency_target_ms", "sampling_rate")
"""What a task is made of: the parameters of the client's `create_task`."""

ASSIGNED: Final = frozenset(
    {"id", "active_version", "total_versions", "created_at", "updated_at", "warnings", "questions", "generation"}
)
"""Members that the server adds to a task: present in a file from `get --json`, but not for creating a task."""

_ALIKE = 60
"""Characters by which an input is found in a warning, which cuts longer ones."""

_NARROW = 90
"""Columns below which a list of tasks has no dates."""


class _Output(Protocol):
    """Where a verb writes: results to stdout, messages (`tell`) to stderr. Tables are built first, then shown."""

    def show(self, made: Any, /) -> None: ...
    def show_json(self, value: Any, /) -> None: ...
    def show_raw(self, text: str, /) -> None: ...
    def tell(self, text: str, /) -> None: ...
    def facts(self, rows: Iterable[tuple[str, object]], /) -> Any: ...  # a row whose value is `None` is left out
    def listing(self, columns: Mapping[str, Mapping[str, Any]], rows: Iterable[Iterable[object]], /) -> Any: ...
    def state(self, word: str, good: bool, /) -> object: ...
    def width(self) -> int: ...  # in columns
    def waiting(self, what: str, /) -> AbstractContextManager[Callable[[str], None]]: ...  # gives what tells the stage


@dataclass(frozen=True)
class Verb:
    """One verb: its help, its flags, its call of the client (`ask(client, **values)`), and how the answer is shown.

    With `tells`, `ask` also gets `tell`, which is called with each stage of a long call. `failure` returns the error
    that an answer stands for, which is raised after the answer was shown.
    """

    help: str
    flags: tuple[Flag, ...]
    waiting: str
    ask: Callable[..., Any]
    show: Callable[[_Output, Any], None]
    tells: bool = False
    failure: Optional[Callable[[Any, Mapping[str, Any]], Optional[LoopaiException]]] = None

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a verb's parsed flags, with texts read. Raises `OptionError`."""
        values = {}
        for flag in self.flags:
            value = given.get(flag.name)
            try:
                values[flag.name] = flag.info.read(value) if flag.info.read and isinstance(value, str) else value
            except ValueError as error:
                raise OptionError(f"{{{flag.name}}}: {{problem}}", problem=error) from None
        return values

    def run(self, client: SyncLoopaiClient, output: _Output, as_json: bool, values: Mapping[str, Any]) -> Any:
        """Call the client, show the answer, and return it. Raises what the client raises, and `OptionError`."""
        with output.waiting(self.waiting) as tell:
            answer = self.ask(client, **values, **({"tell": tell} if self.tells else {}))
        if as_json:
            output.show_json(answer)
        else:
            self.show(output, answer)
        failure = self.failure(answer, values) if self.failure is not None else None
        if failure is not None:
            raise failure
        return answer


def _flag(
    name: str,
    help: str,  # noqa: A002  # the word of argparse and Typer
    metavar: Optional[str] = None,
    read: Optional[Callable[[Any], Any]] = None,
    short: tuple[str, ...] = (),
) -> Flag:
    flags = (f"--{name.replace('_', '-')}", *short)
    return Flag(name, flags, OptionInfo(help, read, metavar, group=""), switch=metavar is None)


def _argument(name: str, help: str, metavar: str, read: Optional[Callable[[Any], Any]] = None) -> Flag:  # noqa: A002
    return Flag(name, (), OptionInfo(help, read, metavar, group=""), switch=False)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1
    if not 0 <= share <= 1:
        raise ValueError(f"must be a number from 0 to 1, not {text!r}")
    return share


class _Language:
    """Reads the name of a language; shell completion offers `choices`."""

    choices = LANGUAGES

    def __call__(self, name: str) -> str:
        try:
            return language(name).name
        except UnsupportedLanguage:
            raise ValueError(f"must be {' or '.join(LANGUAGES)}, not {name!r}") from None


def _program(name: str) -> tuple[str, str]:
    """Return source and language of a program's file."""
    return read_text(name), language_of_file("" if name == STDIN else name)


def _task_file(name: str) -> dict[str, Any]:
    from ..models import python_name

    value = parsed(read_text(name), name)
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not a JSON object")
    members = {}
    for given, content in value.items():
        member = python_name(given)
        if member in MEMBERS:
            members[member] = content
        elif member not in ASSIGNED:
            close = difflib.get_close_matches(member, MEMBERS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"a task has {', '.join(MEMBERS)}"
            raise ValueError(f"{name}: unknown member {given!r}: {hint}")
    return members


def _create(
    client: SyncLoopaiClient,
    file: Optional[dict[str, Any]],
    wait: bool,
    tell: Callable[[str], None],
    **given: Any,
) -> Task:
    members = {**(file or {}), **{member: value for member, value in given.items() if value is not None}}
    missing = [f"{{{member}}}" for member in NEEDED if members.get(member) is None]
    if missing:
        raise OptionError(f"a task needs {', '.join(missing)}, or a {{file}} that has it")
    return client.create_task(**members, wait=wait, on_progress=_stages(tell))


def _not_learnt(task: Task, values: Mapping[str, Any]) -> Optional[LoopaiException]:
    """Return the error for an awaited task whose program could not be made."""
    state = task.generation
    if not values["wait"] or state is None or state.status != "failed":
        return None
    return ExecutionException(f"the task is created, and has no program: {state.reason}", code="EXECUTION_ERROR")


def _generate(
    client: SyncLoopaiClient, task: str, no_wait: bool, tell: Callable[[str], None]
) -> Union[ProgramArtifact, Task]:
    if no_wait:
        return client.generate(task, wait=False)
    return client.generate(task, on_progress=_stages(tell))


def _stages(tell: Callable[[str], None]) -> Callable[[GenerationState], None]:
    return lambda state: tell(state.stage or "")


def _push(
    client: SyncLoopaiClient, task: str, program: tuple[str, str], draft: bool, language: Optional[str]
) -> ProgramArtifact:
    code, by_suffix = program
    return client.push_program(task, code, language or by_suffix, activate=not draft)


def _artifacts(client: SyncLoopaiClient, task: str, code: Optional[int]) -> Any:
    if code is not None:
        return client.get_artifact(task, code)
    client.get_task(task)  # the server answers an unknown task with an empty list of programs
    return client.list_artifacts(task)


def _diff(client: SyncLoopaiClient, task: str, one: int, other: int) -> str:
    first, second = (client.get_artifact(task, version).code.splitlines() for version in (one, other))
    return "\n".join(difflib.unified_diff(first, second, f"version {one}", f"version {other}", lineterm=""))


def _show_diff(output: _Output, text: str) -> None:
    if text:
        output.show_raw(shown(text))
    else:
        output.tell("The two versions are the same.")


def _show_generated(output: _Output, made: Union[ProgramArtifact, Task]) -> None:
    from ..models import Task

    if isinstance(made, Task):
        output.tell("The program is being made. See what becomes of it with: get")
        return
    rows = [("version", made.version), ("status", made.status), ("score", _score(made.confidence_score, made.estimate))]
    output.show(output.facts(rows))
    _tell_doubts(output, made.notes, made.questions)
    if made.status == "draft":
        output.tell("The version stays a draft. Use it all the same with: activate")


def _tell_doubts(output: _Output, warnings: Iterable[str], questions: Iterable[OpenQuestion]) -> None:
    """Report the warnings, and the inputs that would decide; a question in a warning is not repeated."""
    told = list(warnings)
    for warning in told:
        output.tell(f"Warning: {shown(warning)}")
    for question in questions:
        given = _one_line(question.input)
        if not any(given[:_ALIKE] in warning for warning in told):
            answers = " or ".join(map(_one_line, question.answers))
            output.tell(f"Programs that fit all examples disagree: give the output for {shown(f'{given} ({answers})')}")


def _one_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _score(score: float, estimate: Optional[bool]) -> str:
    return f"{score:.3f}" + (" (R² of an estimate)" if estimate else "")


def _show_gone(output: _Output, answer: None) -> None:
    output.tell("The task is deleted, with its programs and executions.")


def _show_tasks(output: _Output, tasks: list[Task]) -> None:
    if not tasks:
        output.tell("The server has no tasks. Add one with: create")
        return
    wide = output.width() >= _NARROW
    columns: dict[str, dict[str, Any]] = {"name": {}, "id": {"no_wrap": True}, "version": {"justify": "right"}}
    if wide:
        columns["made"] = {"no_wrap": True}
    rows = ((task.name, task.id, _version(task), *((_moment(task.created_at),) if wide else ())) for task in tasks)
    output.show(output.listing(columns, rows))


def _show_task(output: _Output, task: Task) -> None:
    rows: list[tuple[str, object]] = [
        ("name", task.name),
        ("id", task.id),
        ("description", task.description),
        ("version", _version(task)),
        ("program", _program_state(task)),
        ("examples", f"{len(task.examples):,}"),
        ("input schema", json_text(task.input_schema)),
        ("output schema", json_text(task.output_schema)),
        ("accuracy target", task.accuracy_target),
        ("latency target", f"{task.latency_target_ms} ms"),
        ("sampling rate", task.sampling_rate),
        ("made", _moment(task.created_at)),
        ("changed", None if task.updated_at is None else _moment(task.updated_at)),
    ]
    output.show(output.facts(rows))
    _tell_doubts(output, task.warnings, task.questions)


def _program_state(task: Task) -> Optional[str]:
    """The outcome of the last attempt to make a program; `None` if the server does not report it."""
    state = task.generation
    if state is None:
        return None
    if state.status == "running":
        return f"is being made: {state.stage}"
    if state.status == "failed":
        return "could not be made"
    score = "" if state.confidence_score is None else f", score {state.confidence_score:.3f}"
    return f"version {state.version}, {state.program_status}{score}"


def _show_pushed(output: _Output, program: ProgramArtifact) -> None:
    output.show(output.facts([("version", program.version), ("status", program.status), ("id", program.id)]))


def _show_artifacts(output: _Output, answer: Any) -> None:
    if not isinstance(answer, list):
        output.show_raw(answer.code)
        return
    if not answer:
        output.tell("The task has no program yet. See why with: get")
        return
    right = {"justify": "right"}
    columns: dict[str, dict[str, Any]] = {
        "version": right, "status": {}, "language": {}, "lines": right, "score": right, "made": {"no_wrap": True},
    }  # fmt: skip
    rows = (
        (
            program.version,
            output.state(program.status, True) if program.status == "active" else program.status,
            program.language,
            f"{len(program.code.splitlines()):,}",
            f"{program.confidence_score:.3f}",
            _moment(program.created_at),
        )
        for program in answer
    )
    output.show(output.listing(columns, rows))


def _version(task: Task) -> str:
    if not task.total_versions:
        return "none yet"
    return f"{'none' if task.active_version is None else task.active_version} of {task.total_versions}"


def _moment(moment: Any) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


_TASK = _argument("task", "The task's id or name.", "TASK")

VERBS: Final[Mapping[str, Verb]] = {
    "list": Verb(
        "List the server's tasks, oldest first. Only the embedded server supports this.",
        (),
        "Reading tasks",
        lambda client: client.list_tasks(),
        _show_tasks,
    ),
    "get": Verb("Show a task.", (_TASK,), "Reading the task", lambda client, task: client.get_task(task), _show_task),
    "create": Verb(
        "Create a task, from a file, from flags, or from both.",
        (
            _flag("file", "A task as a JSON file, - for stdin; flags override it.", "FILE", _task_file, ("-f",)),
            _flag("name", "Its name.", "NAME"),
            _flag("description", "What the task does.", "TEXT"),
            _flag("input_schema", "The JSON schema of its inputs.", "JSON|FILE", read_schema),
            _flag("output_schema", "The JSON schema of its outputs.", "JSON|FILE", read_schema),
            _flag(
                "examples",
                'Lines of {"input": …, "output": …}, or a JSON array of them; also gzipped, - for stdin.',
                "FILE",
                read_examples,
            ),
            _flag("accuracy_target", "From 0 to 1.", "SHARE", _share),
            _flag("latency_target_ms", "Target for the time of an execution, in milliseconds.", "MS", whole(1)),
            _flag("sampling_rate", "Share of executions to validate, from 0 to 1.", "SHARE", _share),
            _flag(
                "wait",
                "Wait until the program is made; exit code 1 if it could not be. Only the embedded server supports "
                "this.",
            ),
        ),
        "Creating the task",
        _create,
        _show_task,
        tells=True,
        failure=_not_learnt,
    ),
    "push": Verb(
        "Add your own program as a task's next version: Python, or TypeScript (.ts, .js), with a function "
        "main(input). Only the embedded server supports this.",
        (
            _TASK,
            _argument("program", "The program, - for stdin.", "FILE", _program),
            _flag("draft", "Add it as a draft; the active version stays active."),
            _flag("language", "python or typescript. Default: by the file's suffix.", "LANGUAGE", _Language()),
        ),
        "Sending the program",
        _push,
        _show_pushed,
    ),
    "examples": Verb(
        "Add examples to a task; one with the same input replaces the earlier one. Then: generate. Only the embedded "
        "server supports this.",
        (
            _TASK,
            _argument("examples", 'Lines of {"input": …, "output": …}, or an array of them.', "FILE", read_examples),
        ),
        "Adding the examples",
        lambda client, task, examples: client.add_examples(task, examples),
        _show_task,
    ),
    "generate": Verb(
        "Make the next version of a task's program from its examples; it becomes active if it is better. Only the "
        "embedded server supports this.",
        (_TASK, _flag("no_wait", "Return at once; get says what became of it.")),
        "Making the program",
        _generate,
        _show_generated,
        tells=True,
    ),
    "activate": Verb(
        "Activate a version. Only the embedded server supports this.",
        (_TASK, _argument("version", "The version.", "N", whole(1))),
        "Activating the program",
        lambda client, task, version: client.activate(task, version),
        _show_pushed,
    ),
    "retire": Verb(
        "Retire a version. Only the embedded server supports this.",
        (_TASK, _argument("version", "The version.", "N", whole(1))),
        "Retiring the program",
        lambda client, task, version: client.retire(task, version),
        _show_pushed,
    ),
    "diff": Verb(
        "Show how the programs of two versions differ.",
        (_TASK, _argument("one", "A version.", "N", whole(1)), _argument("other", "The other one.", "M", whole(1))),
        "Reading the programs",
        _diff,
        _show_diff,
    ),
    "delete": Verb(
        "Delete a task with its examples, programs and executions. Only the embedded server supports this.",
        (_TASK,),
        "Deleting the task",
        lambda client, task: client.delete_task(task),
        _show_gone,
    ),
    "artifacts": Verb(
        "List a task's programs by version, or write the source of one.",
        (_TASK, _flag("code", "Write the source of this version.", "VERSION", whole(1))),
        "Reading programs",
        _artifacts,
        _show_artifacts,
    ),
}
"""The verbs of both shells."""
