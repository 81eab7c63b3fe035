"""What the commands that ask a server share: the client's options, `--json`, the client, and the task that is meant."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Callable, Final, Optional, get_type_hints

import typer

from ..config import OPTIONS
from ..shell.options import Flag
from ..shell.text import no_server
from .failures import UNREACHABLE, Failed

if TYPE_CHECKING:
    from ..client import SyncLoopaiClient

METAVARS: Final[Mapping[str, str]] = {
    "base_url": "URL",
    "api_key": "KEY",
    "timeout": "SECONDS",
    "deadline": "SECONDS",
    "max_retries": "N",
    "local": "DIR",
}
"""The client's options that are flags here, and what their values are called; the environment has them all."""


COMPLETION_SECONDS = 1.0
"""How long a shell's completion waits for the names of tasks."""


def _task_names(incomplete: str) -> list[str]:
    """The names of tasks for the shell's completion; none where no server answers at once."""
    from ..client import SyncLoopaiClient
    from ..exceptions import ConfigurationError, LoopaiException

    try:
        with SyncLoopaiClient(deadline=COMPLETION_SECONDS, max_retries=0) as client:
            names = set(client.config.tasks)
            with suppress(LoopaiException):
                names |= {task.name for task in client.list_tasks()}
    except ConfigurationError:
        return []
    return sorted(name for name in names if name.startswith(incomplete))


TaskArgument = Annotated[
    str,
    typer.Argument(metavar="TASK", help="Its id, or its name.", show_default=False, autocompletion=_task_names),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Answer in JSON on stdout; `batch` writes JSON lines on stderr instead.")
]


def _flags() -> dict[str, Any]:
    flags: dict[str, Any] = {}
    for option in OPTIONS:
        if option.argument in METAVARS:
            said = f"{option.help[0].upper()}{option.help[1:]} ({option.environment})."
            flag = typer.Option(
                f"--{option.argument.replace('_', '-')}",
                metavar=METAVARS[option.argument],
                help=said,
                show_default=False,
                rich_help_panel="Server",
            )
            flags[option.argument] = Annotated[Optional[str], flag]
    return flags


FLAGS: Final[Mapping[str, Any]] = _flags()


@dataclass
class Session:
    """How one command was told to reach the server, and to speak."""

    arguments: dict[str, str] = field(default_factory=dict, repr=False)
    as_json: bool = False

    @contextmanager
    def client(self, **defaults: Any) -> Iterator[SyncLoopaiClient]:
        """The client that the command line and the environment describe; `defaults` stand behind both.

        Raises `ConfigurationError` for options that are wrong, and `Failed` with what to do where no server is at the
        address that nobody chose.
        """
        from ..client import SyncLoopaiClient
        from ..exceptions import ConnectionException

        with SyncLoopaiClient(**self.arguments) as client:  # type: ignore[arg-type]  # the table reads texts, too
            unsaid = {name: value for name, value in defaults.items() if client.config.sources[name] == "default"}
            try:
                yield client.with_options(**unsaid) if unsaid else client
            except ConnectionException as error:
                told = no_server(client, error)
                if told is None:
                    raise
                raise Failed(told, UNREACHABLE) from None


def flags_given(context: typer.Context) -> dict[str, str]:
    """The client's options among the flags before the command's name."""
    before = context.find_root().params
    return {name: before[name] for name in FLAGS if before.get(name) is not None}


def shared(run: Callable[..., Any]) -> Callable[..., Any]:
    """A command of a function of a `Session` and parameters of its own: it also takes the options of the client.

    A flag after the command's name beats one before it.
    """
    return with_flags(())(run)


def with_flags(flags: Iterable[inspect.Parameter]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As `shared`, for a function that also takes `flags`, by their names."""

    def made(run: Callable[..., Any]) -> Callable[..., Any]:
        _, *own = [part for part in _parameters(run) if part.kind != inspect.Parameter.VAR_KEYWORD]

        @wraps(run)
        def command(context: typer.Context, **values: Any) -> Any:
            after = {name: value for name in FLAGS if (value := values.pop(name)) is not None}
            as_json = bool(values.pop("as_json")) | bool(context.find_root().params.get("as_json"))
            return run(Session({**flags_given(context), **after}, as_json), **values)

        keyword = inspect.Parameter.KEYWORD_ONLY
        parts = [
            inspect.Parameter("context", keyword, annotation=typer.Context),
            *(part.replace(kind=keyword) for part in own),
            *flags,
            inspect.Parameter("as_json", keyword, default=False, annotation=JsonOption),
            *(inspect.Parameter(name, keyword, default=None, annotation=flag) for name, flag in FLAGS.items()),
        ]
        return declared(command, parts)

    return made


def parameters(flags: Iterable[Flag]) -> list[inspect.Parameter]:
    """Return Typer's parameters, one for each flag of a table; one without a spelling is a required argument."""
    made = []
    for flag in flags:
        info, default = flag.info, False if flag.switch else None
        kind: Any = bool if flag.switch else Optional[list[str]] if info.repeated else Optional[str]
        if flag.flags:
            said: Any = typer.Option(
                *flag.flags,
                autocompletion=among(info.choices) if info.choices else None,
                metavar=None if flag.switch else info.metavar,
                help=info.help,
                show_default=False,
                rich_help_panel=info.group or None,
            )
        else:
            names = _task_names if info.metavar == "TASK" else None
            said = typer.Argument(metavar=info.metavar, help=info.help, show_default=False, autocompletion=names)
            kind, default = str, inspect.Parameter.empty  # type: ignore[assignment]  # required
        made.append(
            inspect.Parameter(
                flag.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, said]
            )
        )
    return made


def among(choices: Sequence[str]) -> Callable[[str], list[str]]:
    """Return the shell's completion of an option that takes one of some words."""
    return lambda incomplete: [choice for choice in choices if choice.startswith(incomplete)]


def resolved(run: Callable[..., Any]) -> Callable[..., Any]:
    """The function with annotations that Typer can read on Python 3.9, where it does not resolve them."""
    return declared(run, _parameters(run))


def declared(run: Callable[..., Any], parts: Sequence[inspect.Parameter]) -> Callable[..., Any]:
    """The function, which from now on says that it has these parameters."""
    run.__signature__ = inspect.Signature(parts)  # type: ignore[attr-defined]  # what `inspect.signature` reads
    run.__annotations__ = {part.name: part.annotation for part in parts}
    return run


def _parameters(run: Callable[..., Any]) -> list[inspect.Parameter]:
    # Not of the function itself: before Python 3.11 a default of None would hide what is annotated in an Optional.
    bare = SimpleNamespace(__annotations__=run.__annotations__)
    hints = get_type_hints(bare, run.__globals__, include_extras=True)
    return [part.replace(annotation=hints[name]) for name, part in inspect.signature(run).parameters.items()]
