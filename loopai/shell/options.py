"""The table of `loopai batch`: the batch options, and those that only a command has. Parsers are derived from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any, Optional, TypeVar

from ..batch.options import AGAIN, FILE, QUERYSET, RESULTS, BatchOptions, OptionInfo, one_of, option, seconds, table
from ..batch.reporting.progress import KINDS
from ..exceptions import OptionError
from ..modes import MODE_FLAGS

COMMANDS = frozenset({FILE, QUERYSET})

O = TypeVar("O", bound="CommandOptions")  # noqa: E741  # of options


@dataclass(frozen=True)
class CommandOptions(BatchOptions):
    """The options of a batch command. `input` and `output` are paths, or `-` for a stream."""

    task: str = ""
    input: Optional[str] = None
    output: Optional[str] = option(
        None,
        "File that rows and results are written to; - for stdout.",
        metavar="FILE",
        flags=("--output", "-o"),
        where=COMMANDS,
        group=RESULTS,
    )
    report: Optional[str] = option(
        None, "Write an HTML page about the run.", metavar="FILE.html", where=COMMANDS, group=RESULTS
    )
    edge: bool = option(False, "Run the task's program in this process, not on the server.", where=COMMANDS)
    dry_run: bool = option(False, "Show what would be sent, and send nothing.", where=COMMANDS)
    progress: str = option(
        "auto",
        "How progress is shown on stderr: auto, plain, json or none (auto).",
        read=one_of(*KINDS),
        metavar="KIND",
        where=COMMANDS,
    )
    grace: float = option(
        30.0,
        "How long requests in flight may take after Ctrl-C (30).",
        read=seconds,
        metavar="SECONDS",
        where=COMMANDS,
    )
    json: bool = False


def mode_argument(mode: str) -> str:
    """The name under which a parser keeps the flag of a mode: `continue` is a word of Python."""
    return f"{mode}_" if iskeyword(mode) else mode


MODE_ARGUMENTS = tuple(map(mode_argument, MODE_FLAGS))


@dataclass(frozen=True)
class Flag:
    """One flag of a command, for any parser."""

    name: str
    flags: tuple[str, ...]
    info: OptionInfo
    switch: bool


def flags_of(options: type[BatchOptions], where: Iterable[str] = COMMANDS) -> Iterator[Flag]:
    """The flags that a table of options makes; `mode` makes one for each value."""
    wanted = frozenset(where)
    defaults = {item: options.__dataclass_fields__[item].default for item, _ in table(options)}
    for name, info in table(options):
        if not info.where & wanted:
            continue
        if name == "mode":
            for mode, text in MODE_FLAGS.items():
                said = OptionInfo(text, where=info.where, group=AGAIN)
                yield Flag(mode_argument(mode), _flag(mode), said, switch=True)
            continue
        yield Flag(name, info.flags or _flag(name), info, switch=isinstance(defaults[name], bool))


def _flag(name: str) -> tuple[str, ...]:
    return (f"--{name.replace('_', '-')}",)


def options_of(options: type[O], parsed: Mapping[str, Any]) -> O:
    """Return the parsed options; `None` means not given. Raises `OptionError`."""
    values = {name: value for name, value in parsed.items() if value is not None and name not in MODE_ARGUMENTS}
    modes = [mode for mode in MODE_FLAGS if parsed.get(mode_argument(mode))]
    if len(modes) > 1:
        raise OptionError(f"{{{modes[0]}}} and {{{modes[1]}}} exclude each other")
    if modes:
        values["mode"] = modes[0]
    return options(**values)
