"""The formats of a run's events: server-sent events, JSON lines, or CSV of the results."""

# Optional, as pydantic and FastAPI read annotations of this package at run time
import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Callable, Protocol

from pydantic_core import to_json

from ...batch.formats.members import member_columns, member_values
from ...batch.formats.sinks import cell_of
from ...problems import Problem
from .batch_events import BatchProgress, BatchResult
from .events import HEARTBEAT, MEDIA_TYPE, event

NDJSON, CSV = "application/x-ndjson", "text/csv"


class Format(Protocol):
    """Writes events. `heartbeat` is sent if there is nothing else to send; it may be empty."""

    media_type: str
    heartbeat: bytes

    def result(self, result: BatchResult) -> bytes:
        """Write the result of a row."""

    def progress(self, progress: BatchProgress) -> bytes:
        """Write the progress of the run."""

    def error(self, problem: Problem, ended: str) -> bytes:
        """Write why the run cannot continue."""

    def summary(self, summary: Mapping[str, Any]) -> bytes:
        """Write the summary."""


class ServerSentEvents:
    """`event:`, `id:` (the row's key) and `data:`, as browsers read them."""

    media_type = MEDIA_TYPE
    heartbeat = HEARTBEAT

    def result(self, result: BatchResult) -> bytes:
        """See `Format`."""
        return event("result", result, result["key"])

    def progress(self, progress: BatchProgress) -> bytes:
        """See `Format`."""
        return event("progress", progress)

    def error(self, problem: Problem, ended: str) -> bytes:
        """See `Format`."""
        return event("error", problem.model_dump(exclude_none=True))

    def summary(self, summary: Mapping[str, Any]) -> bytes:
        """See `Format`."""
        return event("summary", summary)


class JsonLines:
    """One JSON object per line: `event` names the event, the other members are its data."""

    media_type = NDJSON
    heartbeat = b'{"event":"heartbeat"}\n'

    def result(self, result: BatchResult) -> bytes:
        """See `Format`."""
        return _line("result", result)

    def progress(self, progress: BatchProgress) -> bytes:
        """See `Format`."""
        return _line("progress", progress)

    def error(self, problem: Problem, ended: str) -> bytes:
        """See `Format`."""
        return _line("error", problem.model_dump(exclude_none=True))

    def summary(self, summary: Mapping[str, Any]) -> bytes:
        """See `Format`."""
        return _line("summary", summary)


def _line(name: str, data: Mapping[str, Any]) -> bytes:
    return to_json({"event": name, **data}) + b"\n"


class Csv:
    """A line for each result, and nothing else; `output` is JSON, and `members` of it have columns (`output.label`).

    If the run did not finish, the last line has no key, and its `error` and `code` say why.
    """

    media_type = CSV
    heartbeat = b""

    def __init__(self, keep: Iterable[str]) -> None:
        self._keep = tuple(keep)
        own = ("key", "status", "output", "error", "code", "latency_ms", "confidence", "line")
        self._header: tuple[str, ...] = (*own, *(f"columns.{name}" for name in self._keep))
        self._explained = False
        self.members: Sequence[str] = ()
        """Set it before the first line is written."""

    def result(self, result: BatchResult) -> bytes:
        """See `Format`."""
        columns = result.get("columns", {})
        return self._written(
            result["key"],
            result["status"],
            to_json(result["output"]).decode() if "output" in result else None,
            result.get("error"),
            result.get("code"),
            result.get("latency_ms"),
            result.get("confidence"),
            result.get("line"),
            *(cell_of(columns.get(name)) for name in self._keep),
            *(cell_of(value) for value in member_values(result.get("output"), self.members)),
        )

    def progress(self, progress: BatchProgress) -> bytes:
        """See `Format`."""
        return b""

    def error(self, problem: Problem, ended: str) -> bytes:
        """See `Format`."""
        self._explained = True
        return self._written(None, "error", None, problem.detail, ended)

    def summary(self, summary: Mapping[str, Any]) -> bytes:
        """See `Format`."""
        if self._explained or summary["ended"] == "finished":
            return self._written()
        return self._written(None, "error", None, "the run did not finish", summary["ended"])

    def _written(self, *cells: Any) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text)
        if self._header:
            writer.writerow((*self._header, *member_columns(self.members, self._header)))
            self._header = ()
        if cells:
            writer.writerow(cells)
        return text.getvalue().encode("utf-8", "replace")


def format_for(accept: str, keep: Iterable[str]) -> Format:
    """Return the format that an `Accept` header prefers; server-sent events if it names none of them."""
    wanted: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((text[2:].strip() for text in parameters if text.startswith("q=")), "1")
        try:
            wanted[name] = float(quality)
        except ValueError:
            wanted[name] = 0.0
    # The order decides between formats of the same quality.
    made: dict[str, Callable[[], Format]] = {
        MEDIA_TYPE: ServerSentEvents,
        NDJSON: JsonLines,
        "application/jsonl": JsonLines,
        CSV: partial(Csv, keep),
    }
    best = max(made, key=lambda name: wanted.get(name, 0.0))
    return made[best]() if wanted.get(best, 0.0) > 0 else ServerSentEvents()
