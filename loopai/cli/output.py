"""Output of commands: JSON and tables on stdout, one line for each error on stderr."""

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
"""Columns without a terminal: programs that read the output need whole lines."""

PATIENCE = 0.4
"""Seconds before a terminal shows what the command waits for."""


def show_json(value: Any) -> None:
    """Write a value as JSON; models as the server sent them."""
    _write(sys.stdout, to_json(value, ascii_only=not _is_utf8(sys.stdout)) + "\n")


def show(*parts: RenderableType) -> None:
    """Write tables and texts."""
    _print(sys.stdout, parts)


def show_raw(text: str) -> None:
    """Write a text unchanged, ended by a line break. Control characters are not written to a terminal."""
    if sys.stdout.isatty():
        text = shown(text)
    _write(sys.stdout, text if text.endswith("\n") else text + "\n")


def tell(*parts: RenderableType) -> None:
    """Write a message for people to stderr."""
    _print(sys.stderr, parts)


def complain(text: str, code: int, *, as_json: bool = False) -> None:
    """Write an error to stderr, in one line; as JSON with the exit code."""
    if as_json:
        _write(sys.stderr, failure(code, text, as_json=True) + "\n")
        return
    from rich.text import Text

    _print(sys.stderr, [Text.assemble(("loopai: ", "bold red"), " ".join(shown(text).split()))])


def facts(rows: Iterable[tuple[str, object]], title: Optional[str] = None) -> Table:
    """Return a table of names and values, without rows whose value is `None`."""
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
    """Return a table with a row for each item; `columns` maps headings to Rich's options for columns."""
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
    """Return a word in green or red."""
    from rich.text import Text

    return Text(shown(word), style="green" if good else "red")


def width() -> int:
    """Return the number of columns of the output."""
    return _console(sys.stdout).width


@contextmanager
def waiting(what: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal what the command waits for. Writes nothing elsewhere, or if the wait is short.

    Yields a function that shows the stage, from then on with a bar and the time.
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
            # The terminal wraps sentences, so that a copied line stays one line.
            console.print(part, soft_wrap=isinstance(part, (str, Text)))
    # Rich pads lines to the table's width, and the padding would be copied too.
    _write(stream, "".join(f"{line.rstrip()}\n" for line in written.get().split("\n")[:-1]))


def _write(stream: Optional[TextIO], text: str) -> None:
    """Write and flush, so that errors are raised here. A closed pipe is not an error.

    Raises `Failed` if the output cannot be written (a full disk).
    """
    if stream is None:  # closed before the process started
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
    """Discard buffered and further output, which the interpreter would write when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
