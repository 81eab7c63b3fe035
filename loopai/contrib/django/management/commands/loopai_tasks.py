"""`manage.py loopai_tasks`: verbs and flags come from the table in `loopai.shell.tasks`, which does the rest.

Here a schema may also be a pydantic class, by its dotted path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Callable

from django.core.management.base import BaseCommand, CommandParser
from django.utils.module_loading import import_string
from pydantic import BaseModel

from .....exceptions import OptionError
from .....shell.tasks import VERBS
from .....shell.text import shown, to_json
from ...clients import get_client
from ...conf import DEFAULT_ALIAS
from ...exits import told
from ...flags import add_flags
from ...in_shell import ShellCommand

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


class Command(ShellCommand):
    """Lists, creates and programs tasks."""

    help = (
        "Create tasks, look at them and at their programs. --input-schema and --output-schema also take "
        "app.module.Class, a pydantic class. Exit code: 0, 1 refused, 2 usage, 4 unreachable."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the verbs of the table and their flags."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        for name, verb in VERBS.items():
            made = verbs.add_parser(name, help=verb.help, description=verb.help)
            add_flags(made, verb.flags)
            made.add_argument("--json", action="store_true", help="Answer in JSON.")
            made.add_argument("--alias", default=DEFAULT_ALIAS, help="Alias in the LOOPAI setting.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the verb."""
        verb = VERBS[options["verb"]]
        with told():
            schemas = {name: _model(name, options.get(name)) for name in ("input_schema", "output_schema")}
            values = verb.read({**options, **schemas})
            verb.run(get_client(options["alias"]), _Plain(self), options["json"], values)


class _Plain:
    """Writes lines to the command's streams."""

    def __init__(self, command: BaseCommand) -> None:
        self._stdout, self._stderr = command.stdout, command.stderr

    def show(self, text: str) -> None:
        self._stdout.write(text)

    def show_json(self, value: Any) -> None:
        self._stdout.write(to_json(value))

    def show_raw(self, text: str) -> None:
        self._stdout.write(shown(text) if self._stdout.isatty() else text)

    def tell(self, text: str) -> None:
        self._stderr.write(text, style_func=str)

    def facts(self, rows: Iterable[tuple[str, object]]) -> str:
        return "\n".join(f"{name}: {shown(value)}" for name, value in rows if value is not None)

    def listing(self, columns: Mapping[str, Any], rows: Iterable[Iterable[object]]) -> str:
        lines = [list(columns), *([shown(cell) for cell in row] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines)]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)

    def state(self, word: str, good: bool) -> str:  # without colours
        return word

    def width(self) -> int:
        return 10_000  # nothing is shortened

    def waiting(self, what: str) -> AbstractContextManager[Callable[[str], None]]:  # nothing is drawn
        return nullcontext(lambda stage: None)


def _model(name: str, given: Any) -> Any:
    """Return the pydantic class of a dotted path; anything else as it is. Raises `OptionError`."""
    if not isinstance(given, str) or not _DOTTED.fullmatch(given) or Path(given).exists():
        return given
    try:
        model = import_string(given)
    except ImportError as error:
        text = f"{{{name}}}: {{given}} is not a file, and cannot be imported: {{problem}}"
        raise OptionError(text, given=given, problem=error) from None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise OptionError(f"{{{name}}}: {{given}} is not a pydantic class", given=given)
    return model
