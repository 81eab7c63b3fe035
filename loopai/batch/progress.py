"""Shows how a run goes: a bar on a terminal, a plain line every few seconds elsewhere, or JSON lines."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Callable, Optional, TextIO

from ..exceptions import ConfigurationError
from .tally import Summary

if TYPE_CHECKING:
    from .runs import Run

KINDS = ("auto", "plain", "json", "none")

PLAIN_EVERY = 5.0
"""Seconds between plain lines: a log of an hour stays under a thousand lines."""

JSON_EVERY = 1.0
"""Seconds between JSON lines: what reads them may draw a bar of its own."""


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
        elif self.left is not None:
            parts.append(f"{clock_time(self.left)} left")
        if self.last_error:
            parts.append(f"last error: {self.last_error[:80]}")
        return ", ".join(parts)


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
        self._file.write(text + "\n")
        self._file.flush()


class Bar:
    """A bar on a terminal, drawn by Rich."""

    def __init__(self, file: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._clock = clock
        columns = [
            SpinnerColumn(),
            BarColumn(bar_width=None),
            TextColumn("[progress.percentage]{task.percentage:>3.0f}%"),
            MofNCompleteColumn(),
            TextColumn("[green]{task.fields[ok]:,} ok[/] [red]{task.fields[errors]}[/] {task.fields[pace]}"),
        ]
        console = Console(file=file)
        self._rich = RichProgress(*columns, console=console, transient=False, refresh_per_second=8)
        self._task = self._rich.add_task("", total=None, ok=0, errors="", pace="")
        self._started = False

    def update(self, run: Run) -> None:
        """See `Watcher`."""
        if not self._started:
            self._rich.start()
            self._started = True
        now = Progress(run, self._clock())
        pace = f"{now.rate:,.0f} rows/s · {now.in_flight} in flight"
        if now.paused is not None:
            pace = f"[yellow]paused {now.paused:.0f} s[/]"
        elif now.left is not None:
            pace += f" · {clock_time(now.left)} left"
        done = now.done + now.skipped
        total = now.total if now.total is not None else (done / now.fraction if now.fraction and done else None)
        errors = f"{now.errors:,} errors" if now.errors else ""
        self._rich.update(self._task, completed=done, total=total, ok=now.ok, errors=errors, pace=pace)

    def finish(self, run: Run, summary: Summary) -> None:
        """See `Watcher`."""
        self.update(run)
        if summary.ended == "finished":
            done = run.tally.done + run.reader.skipped
            self._rich.update(self._task, completed=done, total=done)
        self._rich.stop()


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
