"""What commands that call a server share: the client's options, `--json`, the client, and the task argument."""

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
    "validate_inputs": "",
}
"""The client's options that have flags, with their metavars; one without a metavar is a switch.

All options can be set in the environment.
"""


_IN_A_SHELL: Final[Mapping[str, str]] = {
    "api_key": "bearer token",
    "timeout": "time limit for one attempt, in seconds; none for no limit",
    "max_retries": "retries after the first attempt; none for no limit",
    "validate_inputs": "check inputs against the task's schema before they are sent",
    "local": "run on an embedded server that keeps its data in this folder",
}
"""The help of options whose text in the table describes Python values."""

COMPLETION_SECONDS = 1.0
"""Seconds that a shell's completion waits for task names."""


def _task_names(incomplete: str) -> list[str]:
    """Return task names for the shell's completion; none if no server answers in time."""
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
    typer.Argument(metavar="TASK", help="The task's id or name.", show_default=False, autocompletion=_task_names),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Write JSON to stdout; `batch` writes JSON lines to stderr instead.")
]


def _flags() -> dict[str, Any]:
    flags: dict[str, Any] = {}
    for option in OPTIONS:
        if option.argument in METAVARS:
            text = _IN_A_SHELL.get(option.argument, option.help)
            said = f"{text[0].upper()}{text[1:]} ({option.environment})."
            flag = typer.Option(
                f"--{option.argument.replace('_', '-')}",
                metavar=METAVARS[option.argument] or None,
                help=said,
                show_default=False,
                rich_help_panel="Server",
            )
            kind: Any = Optional[str] if METAVARS[option.argument] else Optional[bool]
            flags[option.argument] = Annotated[kind, flag]
    return flags


FLAGS: Final[Mapping[str, Any]] = _flags()


@dataclass
class Session:
    """How one command reaches the server, and whether it writes JSON."""

    arguments: dict[str, Any] = field(default_factory=dict, repr=False)
    as_json: bool = False

    @contextmanager
    def client(self, **defaults: Any) -> Iterator[SyncLoopaiClient]:
        """Open the client that command line and environment describe; `defaults` apply after both.

        Raises `ConfigurationError` for invalid options, and `Failed`, with what to do, if no server answers at the
        default address.
        """
        from ..client import SyncLoopaiClient
        from ..exceptions import ConnectionException

        with SyncLoopaiClient(**self.arguments) as client:
            unsaid = {name: value for name, value in defaults.items() if client.config.sources[name] == "default"}
            try:
                yield client.with_options(**unsaid) if unsaid else client
            except ConnectionException as error:
                told = no_server(client, error)
                if told is None:
                    raise
                raise Failed(told, UNREACHABLE) from None


def flags_given(context: typer.Context) -> dict[str, Any]:
    """Return the client's options among the flags before the command's name."""
    before = context.find_root().params
    return {name: before[name] for name in FLAGS if before.get(name) is not None}


def shared(run: Callable[..., Any]) -> Callable[..., Any]:
    """Make a command of a function that takes a `Session` and its own parameters, by adding the client's options.

    A flag after the command's name takes precedence over one before it.
    """
    return with_flags(())(run)


def with_flags(flags: Iterable[inspect.Parameter]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Like `shared`, for a function that also takes `flags` by name."""

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
    """Return Typer's parameters for the flags of a table. A flag without a spelling is a required argument."""
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
    """Return the function with evaluated annotations, which Typer needs on Python 3.9."""
    return declared(run, _parameters(run))


def declared(run: Callable[..., Any], parts: Sequence[inspect.Parameter]) -> Callable[..., Any]:
    """Give the function a signature with these parameters, and return it."""
    run.__signature__ = inspect.Signature(parts)  # type: ignore[attr-defined]  # what `inspect.signature` reads
    run.__annotations__ = {part.name: part.annotation for part in parts}
    return run


def _parameters(run: Callable[..., Any]) -> list[inspect.Parameter]:
    # Not of the function itself: before Python 3.11, a default of None wraps the annotation in Optional.
    bare = SimpleNamespace(__annotations__=run.__annotations__)
    hints = get_type_hints(bare, run.__globals__, include_extras=True)
    return [part.replace(annotation=hints[name]) for name, part in inspect.signature(run).parameters.items()]
