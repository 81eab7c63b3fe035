"""Shows how a run goes: a bar on a terminal, a plain line every few seconds elsewhere, or JSON lines."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any, Callable, Optional, TextIO

from ...exceptions import ConfigurationError
from .statistics import Summary

if TYPE_CHECKING:
    from ..api import Run

KINDS = ("auto", "plain", "json", "none")

PLAIN_EVERY = 5.0
"""Seconds between plain lines: a log of an hour stays under a thousand lines."""

JSON_EVERY = 1.0
"""Seconds between JSON lines: what reads them may draw a bar of its own."""

BAR_CELLS = (8, 30)
"""Columns that the bar itself has at least and at most; between them it is a quarter of the terminal."""

_CONTROLS = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), "\N{REPLACEMENT CHARACTER}")


class Progress:
    """What can be said of a run now. Times are the run's clock, in seconds; rates are rows a second."""

    def __init__(self, run: Run, now: float) -> None:
        tally, reader = run.tally, run.reader
        self.ok = tally.ok - tally.earlier_ok
        self.errors = tally.errors - tally.earlier_errors
        self.done = self.ok + self.errors
        self.skipped = reader.skipped
        self.total = run.total
        self.seconds = max(0.0, now - tally.started)
        self.rate = self.done / self.seconds if self.seconds > 0 else 0.0
        self.in_flight = run.scheduler.in_flight
        self.last_error = run.scheduler.last_error
        pause = run.scheduler.pace.paused_until - now
        self.paused = pause if pause > 0 else None
        self.fraction = self._fraction(run)
        self.left = self._left()

    def _fraction(self, run: Run) -> Optional[float]:
        if self.total:
            return min(1.0, (self.done + self.skipped) / self.total)
        fraction = getattr(run.values, "fraction", None)
        return fraction() if callable(fraction) else None

    def _left(self) -> Optional[float]:
        if self.total is not None:
            rows = max(0, self.total - self.done - self.skipped)
            return rows / self.rate if self.rate > 0 else None
        if not self.fraction or self.skipped:
            return None
        return self.seconds * (1 - self.fraction) / self.fraction

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data; `left_s` is the estimate of the seconds to go."""
        return {
            "done": self.done,
            "total": self.total,
            "ok": self.ok,
            "errors": self.errors,
            "skipped": self.skipped,
            "rate": round(self.rate, 1),
            "in_flight": self.in_flight,
            "seconds": round(self.seconds, 1),
            "left_s": None if self.left is None else round(self.left, 1),
            "paused_s": None if self.paused is None else round(self.paused, 1),
            "last_error": self.last_error,
        }

    def line(self) -> str:
        """All of it as one line for people."""
        share = f" of {self.total:,}" if self.total is not None else ""
        parts = [f"{self.done + self.skipped:,}{share} rows", f"{self.ok:,} ok", f"{self.errors:,} errors"]
        if self.skipped:
            parts.append(f"{self.skipped:,} from before")
        parts.append(f"{self.rate:,.0f} rows/s")
        parts.append(f"{self.in_flight} in flight")
        if self.paused is not None:
            parts.append(f"paused {self.paused:.0f} s (the server rations or rests)")
        elif self.left is not None and self.fraction != 1.0:
            parts.append(f"{clock_time(self.left)} left")
        if self.last_error:
            parts.append(f"last error: {one_line(self.last_error, 80)}")
        return ", ".join(parts)

    def beside_bar(self, room: int) -> str:
        """What stands beside a bar, in at most `room` columns: the less important goes first."""
        rows = self.done + self.skipped
        failed = f"{self.errors:,} errors" if self.errors else ""
        left = ""
        if self.paused is not None:
            left = f"paused {self.paused:.0f} s"
        elif self.left is not None and self.fraction != 1.0:
            left = f"{clock_time(self.left)} left"
        parts = [
            (0, "" if self.fraction is None else f"{self.fraction:>4.0%}"),
            (3, f"{rows:,}/{self.total:,}" if self.total is not None else f"{rows:,} rows"),
            (5, f"{self.ok:,} ok"),
            (2, failed),
            (4, f"{self.rate:,.0f} rows/s"),
            (6, f"{self.in_flight} in flight" if self.in_flight else ""),
            (1, left),
        ]
        kept = [part for part in parts if part[1]]
        while len(kept) > 1 and len(_joined(kept)) > room:
            kept.remove(max(kept))
        return _joined(kept)


def _joined(parts: list[tuple[int, str]]) -> str:
    return " · ".join(text for _, text in parts)


def one_line(text: str, most: int) -> str:
    """A text of somebody's for a line of a terminal or log: without line breaks and controls, and not without end."""
    line = " ".join(text.split()).translate(_CONTROLS)
    return line if len(line) <= most else line[: most - 1] + "…"


def clock_time(seconds: float) -> str:
    """Seconds as `0:07`, `12:30` or `3:04:05`."""
    minutes, second = divmod(int(seconds + 0.5), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class Lines:
    """A plain or JSON line every few seconds, and one at the end."""

    def __init__(self, file: TextIO, every: float, as_json: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._every = every
        self._json = as_json
        self._clock = clock
        self._next: Optional[float] = None

    def update(self, run: Run) -> None:
        """See `Watcher`."""
        now = self._clock()
        if self._next is None:
            self._next = run.tally.started + self._every
        if now >= self._next:
            self._next = now + self._every
            self._say(Progress(run, now))

    def finish(self, run: Run, summary: Summary) -> None:
        """See `Watcher`."""
        self._say(Progress(run, self._clock()))

    def _say(self, progress: Progress) -> None:
        text = json.dumps({"progress": progress.to_dict()}, ensure_ascii=False) if self._json else progress.line()
        # A run is not ended by whoever does not want to hear of it any more.
        with contextlib.suppress(BrokenPipeError):
            self._file.write(text + "\n")
            self._file.flush()


class Bar:
    """A bar on a terminal, drawn by Rich: one line of whatever width there is, and below it the last error."""

    def __init__(self, file: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console
        from rich.live import Live

        self._clock = clock
        self._console = Console(file=file)
        self._now: Optional[Progress] = None
        self._live = Live(console=self._console, get_renderable=self._drawn, refresh_per_second=8)

    def update(self, run: Run) -> None:
        """See `Watcher`."""
        now = Progress(run, self._clock())
        if self._now is None:
            self._now = now
            self._live.start(refresh=True)
        self._now = now

    def finish(self, run: Run, summary: Summary) -> None:
        """See `Watcher`."""
        now = Progress(run, self._clock())
        now.last_error = now.paused = now.left = None  # the summary has what went wrong
        if self._now is not None:
            # An input that is closed counts as read, though the run was stopped.
            now.fraction = 1.0 if summary.ended == "finished" else self._now.fraction
            self._now = now
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was, also where the run had no end; more often does no harm."""
        self._live.stop()

    def _drawn(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        now = self._now
        if now is None:
            return ""
        # One column less than there are: a full line makes some terminals begin the next.
        width = self._console.width - 1
        # Of one length for the whole run, so that nothing but the bar's end moves.
        length = min(BAR_CELLS[1], max(BAR_CELLS[0], width // 4))
        text = Text(now.beside_bar(width - length - 1), no_wrap=True, overflow="crop")
        text.highlight_regex(r"[\d,]+ ok", "green")
        text.highlight_regex(r"[\d,]+ errors", "red")
        text.highlight_regex(r"paused \d+ s", "yellow")
        bar = ProgressBar(1.0, now.fraction or 0.0, length, pulse=now.fraction is None)
        line = Table.grid(padding=(0, 1))
        line.add_row(bar, text)
        if now.last_error is None:
            return line
        error = Text(one_line(f"last error: {now.last_error}", width), style="dim", no_wrap=True, overflow="crop")
        return Group(line, error)


def watcher_for(kind: str, file: TextIO) -> list[Any]:
    """The watcher that `--progress` names; `auto` is a bar on a terminal and plain lines elsewhere.

    Raises `ConfigurationError` for another word.
    """
    if kind not in KINDS:
        raise ConfigurationError(f"--progress must be one of {', '.join(KINDS)}, not {kind!r}")
    if kind == "none":
        return []
    if kind == "json":
        return [Lines(file, JSON_EVERY, as_json=True)]
    if kind == "auto" and file.isatty():
        try:
            return [Bar(file)]
        except ImportError:  # the bar is Rich's; without it there are lines
            pass
    return [Lines(file, PLAIN_EVERY, as_json=False)]
