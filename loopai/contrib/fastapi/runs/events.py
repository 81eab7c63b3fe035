"""A run as server-sent events, read from its folder, so that an id means the same in every process."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Optional

from pydantic_core import from_json

from ....batch.engine.event_loop import in_thread
from ....batch.engine.stopping import Stop
from ....batch.formats.sinks import CONFIDENCE, ERROR, KEY, LATENCY, OUTPUT, STATUS
from ....batch.rows import DOUBTFUL, OK
from ..batch_events import BatchResult
from ..events import AT_ONCE, HEARTBEAT, event
from ..lifespan import LoopaiState
from .records import ENDED, RunStatus
from .stored import StoredRun

_ID = re.compile(r"(\d{1,9})-(\d{1,18})(-end)?")


@dataclass(frozen=True)
class Place:
    """A position in a run's events: the generation of the output, and how many of its bytes were sent."""

    generation: int
    offset: int
    ended: bool = False

    def __str__(self) -> str:
        return f"{self.generation}-{self.offset}{'-end' if self.ended else ''}"


def place_of(event_id: str) -> Optional[Place]:
    """Return the position that an event id names; `None` if it is not an id of such an event."""
    found = _ID.fullmatch(event_id.strip())
    return None if found is None else Place(int(found[1]), int(found[2]), found[3] is not None)


def is_over(run: StoredRun, place: Optional[Place]) -> bool:
    """Return whether the run has ended and has no events after that position. Blocks."""
    if place is None or not place.ended or run.read().state not in ENDED:
        return False
    found = run.folder.recorded(run)
    return (found.generation, found.length) == (place.generation, place.offset)


def result_of(line: bytes) -> BatchResult:
    """Return the result of a row from its line in the output."""
    columns: dict[str, Any] = from_json(line)
    status, output, error = columns.pop(STATUS), columns.pop(OUTPUT), columns.pop(ERROR)
    latency, confidence = columns.pop(LATENCY, None), columns.pop(CONFIDENCE, None)
    result: BatchResult = {"key": columns.pop(KEY), "status": status}
    if status in {OK, DOUBTFUL}:
        result["output"] = output
    else:
        result["error"] = error
    if latency is not None:
        result["latency_ms"] = latency
    if confidence is not None:
        result["confidence"] = confidence
    result["columns"] = columns
    return result


class RunEvents:
    """The events of a run from a position on: `result`, `progress` while it runs, and `summary` at its end."""

    def __init__(
        self, run: StoredRun, place: Optional[Place], *, state: LoopaiState, every: float, heartbeat_every: float
    ) -> None:
        self._run = run
        self._place = place
        self._state = state
        self._every = every
        self._heartbeat_every = heartbeat_every
        self._told: Optional[RunStatus] = None

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the events until the run has ended or the application shuts down."""
        stop, stopped = Stop(), asyncio.Event()
        stop.on_request(stopped.set)
        self._state.add_batch(stop)
        idle = 0.0
        try:
            while not stop.requested:
                try:
                    data, more, over = await in_thread(self._next)
                except FileNotFoundError:
                    return  # it was removed
                if data or idle >= self._heartbeat_every:
                    yield data or HEARTBEAT
                    idle = 0.0
                if over:
                    return
                if not more:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(stopped.wait(), self._every)
                    idle += self._every
        finally:
            self._state.remove_batch(stop)

    def _next(self) -> tuple[bytes, bool, bool]:
        """Return some events, whether more are available, and whether these were the last. Blocks."""
        # Read the state first: the output then has at least the rows that the state counts.
        told = self._run.told()
        file, found = self._run.open_output()
        made: list[bytes] = []
        with file:
            place = self._place or Place(found.generation, 0)
            if place.generation != found.generation or not _is_line_start(file, place.offset, found.length):
                place = Place(found.generation, 0)
                made.append(event("reset", {"generation": found.generation}, str(place)))
            file.seek(place.offset)
            offset, size = place.offset, 0
            while offset < found.length and size < AT_ONCE:
                line = file.readline()
                offset += len(line)
                made.append(event("result", result_of(line), f"{found.generation}-{offset}"))
                size += len(made[-1])
        self._place = Place(found.generation, offset)
        more = offset < found.length
        over = told.state in ENDED and not more
        if over:
            made.append(event("summary", told, str(Place(found.generation, offset, ended=True))))
        elif told != self._told:
            self._told = told
            made.append(event("progress", told))
        return b"".join(made), more, over


def _is_line_start(file: Any, offset: int, length: int) -> bool:
    if not 0 < offset <= length:
        return offset == 0
    file.seek(offset - 1)
    return bool(file.read(1) == b"\n")
