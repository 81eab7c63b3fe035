"""Show the progress of a run: a bar on a terminal, plain lines elsewhere, or JSON lines."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Optional, TextIO

from ...exceptions import ConfigurationError, OptionError
from .one_line import counted, one_line
from .snapshot import Snapshot
from .statistics import Summary

KINDS = ("auto", "plain", "json", "none")

PLAIN_EVERY = 5.0
"""Seconds between plain lines: a log of an hour stays under a thousand lines."""

JSON_EVERY = 1.0
"""Seconds between JSON lines: their reader may draw its own bar."""

BAR_CELLS = (8, 30)
"""The least and most columns of the bar itself; in between, it takes a quarter of the terminal."""


def progress_line(now: Snapshot) -> str:
    """Return the progress as one line for people."""
    rows = now.done + now.skipped
    parts = [counted(rows, "row") if now.total is None else f"{rows:,} of {counted(now.total, 'row')}"]
    parts += [f"{now.ok:,} ok", counted(now.errors, "error")]
    if now.doubtful:
        parts.insert(2, f"{now.doubtful:,} doubtful")
    if now.skipped:
        parts.append(f"{now.skipped:,} from before")
    parts.append(f"{now.rate:,.0f} rows/s")
    parts.append(f"{now.in_flight} in flight")
    if now.paused is not None:
        parts.append(f"paused {now.paused:.0f} s (rate limited, or the server is busy)")
    elif now.left is not None and now.fraction != 1.0:
        parts.append(f"{clock_time(now.left)} left")
    if now.last_error:
        parts.append(f"last error: {one_line(now.last_error, 80)}")
    return ", ".join(parts)


def beside_bar(now: Snapshot, room: int, fraction: Optional[float], estimate: bool = True) -> str:
    """Return the text next to a bar at `fraction`, in at most `room` columns: less important parts go first."""
    rows = now.done + now.skipped
    left = ""
    if estimate and now.paused is not None:
        left = f"paused {now.paused:.0f} s"
    elif estimate and now.left is not None and fraction != 1.0:
        left = f"{clock_time(now.left)} left"
    parts = [
        (0, "" if fraction is None else f"{fraction:>4.0%}"),
        (3, f"{rows:,}/{now.total:,}" if now.total is not None else counted(rows, "row")),
        (5, f"{now.ok:,} ok"),
        (3, f"{now.doubtful:,} doubtful" if now.doubtful else ""),
        (2, counted(now.errors, "error") if now.errors else ""),
        (4, f"{now.rate:,.0f} rows/s"),
        (6, f"{now.in_flight} in flight" if now.in_flight else ""),
        (1, left),
    ]
    kept = [part for part in parts if part[1]]
    while len(kept) > 1 and len(_joined(kept)) > room:
        kept.remove(max(kept))
    return _joined(kept)


def _joined(parts: list[tuple[int, str]]) -> str:
    return " · ".join(text for _, text in parts)


def clock_time(seconds: float) -> str:
    """Return seconds as `0:07`, `12:30` or `3:04:05`."""
    minutes, second = divmod(int(seconds + 0.5), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class Lines:
    """A watcher that writes a plain or JSON line every few seconds, and one at the end."""

    def __init__(self, file: TextIO, every: float, as_json: bool) -> None:
        self._file = file
        self._every = every
        self._json = as_json
        self._next = every

    def update(self, snapshot: Snapshot) -> None:
        """See `Watcher`."""
        if snapshot.seconds >= self._next:
            self._next = snapshot.seconds + self._every
            self._say(snapshot)

    def finish(self, snapshot: Snapshot, summary: Summary) -> None:
        """See `Watcher`."""
        self._say(snapshot)

    def _say(self, now: Snapshot) -> None:
        text = json.dumps({"progress": now.to_dict()}, ensure_ascii=False) if self._json else progress_line(now)
        # A closed pipe does not end the run.
        with contextlib.suppress(BrokenPipeError):
            self._file.write(text + "\n")
            self._file.flush()


class ProgressBar:
    """A watcher that draws a bar, on a terminal or in a notebook: `run_batch(…, watchers=[ProgressBar()])`.

    The bar takes one line of any width, with the last error below it. `file` is where it is drawn, by default standard
    output. Requires rich, and in a notebook ipywidgets; raises `ConfigurationError` without rich.
    """

    def __init__(self, file: Optional[TextIO] = None) -> None:
        try:
            from rich.console import Console
            from rich.live import Live
        except ImportError:
            raise ConfigurationError("a progress bar needs rich: pip install rich") from None

        self._console = Console(file=file)
        self._now: Optional[Snapshot] = None
        self._end: Optional[float] = None
        self._live = Live(console=self._console, get_renderable=self._drawn, refresh_per_second=8)

    def update(self, snapshot: Snapshot) -> None:
        """See `Watcher`."""
        first, self._now = self._now is None, snapshot
        if first:
            self._live.start(refresh=True)

    def finish(self, snapshot: Snapshot, summary: Summary) -> None:
        """See `Watcher`."""
        if self._now is not None:
            # A closed input counts as read, even if the run was stopped.
            self._end = 1.0 if summary.ended == "finished" else self._now.fraction or 0.0
            self._now = snapshot
        self.close()

    def close(self) -> None:
        """Restore the terminal, even if the run did not finish. May be called repeatedly."""
        self._live.stop()

    def _drawn(self) -> Any:
        from rich import progress_bar
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        now = self._now
        if now is None:
            return ""
        # One column less than the width: some terminals wrap a full line.
        width = self._console.width - 1
        # The same length for the whole run, so that only the end of the bar moves.
        length = min(BAR_CELLS[1], max(BAR_CELLS[0], width // 4))
        over = self._end is not None
        fraction = self._end if over else now.fraction
        text = Text(beside_bar(now, width - length - 1, fraction, estimate=not over), no_wrap=True, overflow="crop")
        text.highlight_regex(r"[\d,]+ ok", "green")
        text.highlight_regex(r"[\d,]+ errors?", "red")
        text.highlight_regex(r"paused \d+ s", "yellow")
        bar = progress_bar.ProgressBar(1.0, fraction or 0.0, length, pulse=fraction is None)
        line = Table.grid(padding=(0, 1))
        line.add_row(bar, text)
        if over or now.last_error is None:  # the summary has the errors
            return line
        error = Text(one_line(f"last error: {now.last_error}", width), style="dim", no_wrap=True, overflow="crop")
        return Group(line, error)


def watcher_for(kind: str, file: TextIO) -> list[Any]:
    """Return the watchers for `--progress`; `auto` is a bar on a terminal and plain lines elsewhere.

    Raises `ConfigurationError` for another word.
    """
    if kind not in KINDS:
        raise OptionError("{progress} must be one of {kinds}, not {kind!r}", kinds=", ".join(KINDS), kind=kind)
    if kind == "none":
        return []
    if kind == "json":
        return [Lines(file, JSON_EVERY, as_json=True)]
    if kind == "auto" and file.isatty():
        with contextlib.suppress(ConfigurationError):  # the bar needs Rich; without it, write lines
            return [ProgressBar(file)]
    return [Lines(file, PLAIN_EVERY, as_json=False)]
