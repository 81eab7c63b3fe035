"""Where commands write: JSON and tables to stdout, one line for what went wrong to stderr."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Optional, TextIO

from ..shell.text import failure, shown, to_json
from .failures import Failed

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

UNBOUNDED = 10_000
"""Columns where there is no terminal: whatever reads the output wants whole lines."""

PATIENCE = 0.4
"""Seconds before a terminal is told what is waited for: below it nobody has begun to wonder."""


def show_json(value: Any) -> None:
    """Write a value as JSON; models as the server sent them."""
    _write(sys.stdout, to_json(value, ascii_only=not _is_utf8(sys.stdout)) + "\n")


def show(*parts: RenderableType) -> None:
    """Write tables and texts."""
    _print(sys.stdout, parts)


def show_raw(text: str) -> None:
    """Write a text as it is, for whatever reads it; its end is a line's end. A terminal is not commanded by it."""
    if sys.stdout.isatty():
        text = shown(text)
    _write(sys.stdout, text if text.endswith("\n") else text + "\n")


def tell(*parts: RenderableType) -> None:
    """Write to stderr what is for people alone."""
    _print(sys.stderr, parts)


def complain(text: str, code: int, *, as_json: bool = False) -> None:
    """Write to stderr, in one line, what went wrong; as JSON with the exit code."""
    if as_json:
        _write(sys.stderr, failure(code, text, as_json=True) + "\n")
        return
    from rich.text import Text

    _print(sys.stderr, [Text.assemble(("loopai: ", "bold red"), " ".join(shown(text).split()))])


def facts(rows: Iterable[tuple[str, object]], title: Optional[str] = None) -> Table:
    """A table of names and values; a row whose value is `None` is left out."""
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None, pad_edge=False)
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        if value is not None:
            made.add_row(name, value if isinstance(value, Text) else Text(shown(value)))
    return made


def listing(
    columns: Mapping[str, Mapping[str, Any]], rows: Iterable[Iterable[object]], title: Optional[str] = None
) -> Table:
    """A table with a row for each thing; `columns` maps headings to what Rich is told of each column."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for heading, how in columns.items():
        made.add_column(heading, **{"overflow": "fold", **how})
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(shown(cell)) for cell in row))
    return made


def state(word: str, good: bool) -> Text:
    """A word in green or red."""
    from rich.text import Text

    return Text(shown(word), style="green" if good else "red")


def width() -> int:
    """Columns of the output."""
    return _console(sys.stdout).width


@contextmanager
def waiting(what: str) -> Iterator[Callable[[str], None]]:
    """Say on a terminal what is waited for, while it lasts; nothing elsewhere, nor where it is quick.

    Gives a function that tells the stage: from then on a bar with the time beside it.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda stage: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        console=_console(sys.stderr),
        transient=True,
    )
    status = _console(sys.stderr).status(shown(what))
    patience = threading.Timer(PATIENCE, status.start)
    patience.daemon = True
    patience.start()

    def stop() -> None:
        patience.cancel()
        patience.join()
        status.stop()

    def tell(stage: str) -> None:
        if not bar.tasks:
            stop()
            bar.add_task("", total=None)
            bar.start()
        bar.update(bar.tasks[0].id, description=shown(f"{what}: {stage}" if stage else what))

    try:
        yield tell
    finally:
        stop()
        bar.stop()


def _is_utf8(stream: Optional[TextIO]) -> bool:
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    bounded = stream.isatty() or "COLUMNS" in os.environ
    return Console(file=stream, width=None if bounded else UNBOUNDED, highlight=False, markup=False, emoji=False)


def _print(stream: Optional[TextIO], parts: Iterable[RenderableType]) -> None:
    if stream is None:
        return
    from rich.text import Text

    console = _console(stream)
    with console.capture() as written:
        for part in parts:
            # Sentences are the terminal's to wrap: a line stays one line to whoever copies it.
            console.print(part, soft_wrap=isinstance(part, (str, Text)))
    # Rich fills lines up to the table's width, which whoever copies them would copy, too.
    _write(stream, "".join(f"{line.rstrip()}\n" for line in written.get().split("\n")[:-1]))


def _write(stream: Optional[TextIO], text: str) -> None:
    """Write all of it now, so that what goes wrong goes wrong here. A reader who has left is no failure.

    Raises `Failed` where the output cannot be written (a full disk).
    """
    if stream is None:  # closed before the process began
        return
    if not _is_utf8(stream):
        text = text.encode(stream.encoding or "ascii", "backslashreplace").decode(stream.encoding or "ascii")
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        _discard(stream)
    except OSError as error:
        _discard(stream)
        raise Failed(f"the output could not be written: {error.strerror or error}") from None


def _discard(stream: TextIO) -> None:
    """Let what is buffered, and what may follow, go nowhere: the interpreter writes it out at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
