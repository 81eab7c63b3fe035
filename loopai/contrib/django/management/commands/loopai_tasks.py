"""`manage.py loopai_tasks`: list tasks, create one from JSON or from pydantic classes, push a program."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.module_loading import import_string
from pydantic import BaseModel

from .....programs.languages import language_of_file
from ...clients import get_client
from ...conf import DEFAULT_ALIAS
from ...exits import USAGE, told


class Command(BaseCommand):
    """Lists, creates and programs tasks."""

    help = "List tasks, create one, or push a program of your own. Exit code: 0, 1 refused, 2 usage, 4 unreachable."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """The verbs and their options."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        listing = verbs.add_parser("list", help="list the server's tasks (an addition of the embedded server)")
        create = verbs.add_parser("create", help="create a task, from JSON or from two pydantic classes")
        create.add_argument("name", nargs="?", help="the task's name; from the file where that has it")
        create.add_argument(
            "--from", dest="file", metavar="FILE", help="JSON object with the task's members; - reads stdin"
        )
        create.add_argument("--description", help="what the task does")
        create.add_argument("--input", metavar="app.module.Class", help="pydantic class of the input")
        create.add_argument("--output", metavar="app.module.Class", help="pydantic class of the output")
        create.add_argument("--examples", metavar="FILE", help='JSON array of {"input": …, "output": …}')
        create.add_argument("--accuracy-target", type=float, help="0 to 1")
        create.add_argument("--latency-target-ms", type=int, help="milliseconds")
        create.add_argument("--sampling-rate", type=float, help="0 to 1")
        push = verbs.add_parser("push", help="add a program as a task's next version (embedded server)")
        push.add_argument("task", help="the task's id, or its name")
        push.add_argument("program", metavar="FILE", help="the program; - reads stdin")
        push.add_argument("--language", help="by the file's name, else python")
        push.add_argument("--no-activate", action="store_true", help="leave the active version as it is")
        for verb in (listing, create, push):
            verb.add_argument("--alias", default=DEFAULT_ALIAS, help="alias in the LOOPAI setting")
            verb.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what the verb says."""
        with told():
            getattr(self, f"_{options['verb']}")(**options)

    def _list(self, **options: Any) -> None:
        tasks = get_client(options["alias"]).list_tasks()
        if options["json"]:
            self.stdout.write(json.dumps([task.model_dump(mode="json") for task in tasks], indent=2))
            return
        for task in tasks:
            self.stdout.write(f"{task.id}  {task.name}  {task.description}")

    def _create(self, **options: Any) -> None:
        members: dict[str, Any] = _json_object(options["file"]) if options["file"] else {}
        for name in ("name", "description", "accuracy_target", "latency_target_ms", "sampling_rate"):
            if options[name] is not None:
                members[name] = options[name]
        for side in ("input", "output"):
            if options[side] is not None:
                members[f"{side}_schema"] = _model(options[side], f"--{side}")
        if options["examples"] is not None:
            members["examples"] = _read_json(options["examples"])
        missing = {"name", "description", "input_schema", "output_schema"} - members.keys()
        if missing:
            raise CommandError(
                f"a task needs {', '.join(sorted(missing))}: give them as arguments, or all in a file by --from",
                returncode=USAGE,
            )
        unknown = members.keys() - _MEMBERS
        if unknown:
            text = f"{', '.join(sorted(unknown))}: no member of a task; known are {', '.join(sorted(_MEMBERS))}"
            raise CommandError(text, returncode=USAGE)
        task = get_client(options["alias"]).create_task(**members)
        self._say(options, task, f"{task.id}  {task.name}")

    def _push(self, **options: Any) -> None:
        client = get_client(options["alias"])
        task = options["task"]
        code = _read(options["program"])
        language = options["language"] or language_of_file(options["program"])
        artifact = client.push_program(task, code, language, activate=not options["no_activate"])
        self._say(options, artifact, f"version {artifact.version}")

    def _say(self, options: dict[str, Any], made: BaseModel, text: str) -> None:
        self.stdout.write(json.dumps(made.model_dump(mode="json"), indent=2) if options["json"] else text)


_MEMBERS = frozenset(
    {
        "name",
        "description",
        "input_schema",
        "output_schema",
        "examples",
        "accuracy_target",
        "latency_target_ms",
        "sampling_rate",
    }
)
"""The arguments of the client's `create_task`."""


def _read(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{name} cannot be read: {error}", returncode=USAGE) from None


def _read_json(name: str) -> Any:
    try:
        return json.loads(_read(name))
    except json.JSONDecodeError as error:
        raise CommandError(f"{name} is not JSON: {error}", returncode=USAGE) from None


def _json_object(name: str) -> dict[str, Any]:
    value = _read_json(name)
    if not isinstance(value, dict):
        raise CommandError(f"{name} must hold one JSON object, a task", returncode=USAGE)
    return value


def _model(dotted: str, option: str) -> type[BaseModel]:
    try:
        model = import_string(dotted)
    except ImportError as error:
        raise CommandError(f"{option}: {error}", returncode=USAGE) from None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise CommandError(f"{option}: {dotted} is no pydantic class", returncode=USAGE)
    return model
