"""The command line: its commands, the flags before them, and the handling of failures."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final, Optional

import typer

from . import output, records, tasks
from .batch import batch
from .doctor import doctor
from .executions import execute
from .failures import INTERRUPTED, USAGE, UsageError, exit_code_of, usage_line
from .health import health
from .help import PlainCommand, PlainGroup
from .serving import serve
from .session import FLAGS, JsonOption, declared

app: Final = typer.Typer(
    name="loopai",
    cls=PlainGroup,
    # Tracebacks with local variables would show the API key.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 success, 1 failure, 2 usage or configuration, 4 no server answers, 130 Ctrl-C.",
)


def _version(context: typer.Context, asked: bool) -> None:
    # A shell that completes a line only reads its options.
    if asked and not context.resilient_parsing:
        from .._version import __version__

        output.show_raw(f"loopai {__version__}")
        raise typer.Exit


def _before(context: typer.Context, **flags: Any) -> None:
    """Turn tasks into small programs and run them on each input in milliseconds."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)


def _root() -> Any:
    """Declare the flags before a command's name: those of every command that calls a server."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    version = Annotated[bool, typer.Option("--version", help="Write the version.", callback=_version, is_eager=True)]
    parts = [
        inspect.Parameter("context", keyword, annotation=typer.Context),
        inspect.Parameter("version", keyword, default=False, annotation=version),
        inspect.Parameter("as_json", keyword, default=False, annotation=JsonOption),
        *(inspect.Parameter(name, keyword, default=None, annotation=flag) for name, flag in FLAGS.items()),
    ]
    return declared(_before, parts)


app.callback(invoke_without_command=True)(_root())
app.command(cls=PlainCommand)(serve)
app.add_typer(tasks.app, name="tasks")
app.command(cls=PlainCommand)(execute)
app.add_typer(records.app, name="executions")
app.command(cls=PlainCommand)(batch)
app.command(cls=PlainCommand)(health)
app.command(cls=PlainCommand)(doctor)


def run(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command that the arguments name and return the exit code. Failures are written in one line."""
    command = typer.main.get_command(app)
    given = sys.argv[1:] if arguments is None else list(arguments)
    # Unparsable arguments do not say whether to answer in JSON.
    as_json = "--json" in given
    try:
        code = command.main(args=list(given), prog_name="loopai", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except UsageError as error:
        output.complain(usage_line(error), USAGE, as_json=as_json)
        return USAGE
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  # raised again if it is not one of ours
        code = exit_code_of(error)
        from ..option_names import in_shell, spelled

        output.complain(spelled(error, in_shell), code, as_json=as_json)
        return code
