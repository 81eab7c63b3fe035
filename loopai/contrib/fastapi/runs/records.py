"""What is kept of a run in its folder, and what is told of it. How a run is carried out is in `worker`."""

# ruff: noqa: FA100  # pydantic reads these annotations at run time
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, Optional
from uuid import UUID, uuid4

from pydantic import BaseModel, Field

from ....batch.durability import flush_and_sync, sync_folder

State = Literal["waiting", "running", "finished", "stopped", "cancelled"]
Reason = Literal["max_errors", "refused", "unreachable", "disk_full", "fault", "shutdown"]
ENDED: frozenset[State] = frozenset({"finished", "stopped", "cancelled"})

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700


class Figures(BaseModel):
    """How fast a run is; as far as its worker has said."""

    seconds: float = 0.0
    rows_per_s: float = 0.0
    left_s: Optional[float] = None
    last_error: Optional[str] = None
    accuracy: Optional[float] = None


class RunRecord(BaseModel):
    """A run as its folder keeps it: what it was made with, and how far it has come. Only who holds its lock writes it.

    `members` are those of the task's outputs, which CSV has columns for; read when the run begins.
    `again_as` is the generation of the journal that `retry_failed` is to make; once that is there, it was made.
    """

    id: str
    owner: str
    router: str
    task: str
    alias: str
    options: dict[str, Any]
    rows: int
    created: float
    members: list[str] = Field(default_factory=list)
    state: State = "waiting"
    reason: Optional[Reason] = None
    error: Optional[str] = None
    not_before: Optional[float] = None
    attempts: int = 0
    started: Optional[float] = None
    ended: Optional[float] = None
    again_as: Optional[int] = None
    executions: int = 0
    ok: int = 0
    doubtful: int = 0
    errors: int = 0
    figures: Figures = Field(default_factory=Figures)


class RunStatus(BaseModel):
    """One run: what it is, how far it has come, and why it does not continue."""

    id: UUID
    state: State = Field(
        description="`waiting` runs continue by themselves; `stopped` and `cancelled` ones where they are resumed"
    )
    task: str
    rows: int = Field(description="Rows of the upload")
    done: int = Field(description="Rows that have ended, and are in the output")
    ok: int
    doubtful: int = Field(description="Rows whose program is less certain than `min_confidence`")
    errors: int = Field(description="Rows that failed")
    rows_per_s: float = Field(description="Rows a second, since a process took the run up last")
    left_s: Optional[float] = Field(description="Estimated seconds until the end; null where nobody knows")
    seconds: float = Field(description="Seconds of work, since a process took the run up last")
    accuracy: Optional[float] = Field(description="Part of the rows with the right answer; null where none is expected")
    reason: Optional[Reason] = Field(description="Why the run waits or has stopped")
    error: Optional[str] = Field(description="The same in words")
    retry_at: Optional[datetime] = Field(description="When a run that waits for the Loopai server tries again")
    last_error: Optional[str] = Field(description="The last error of a row")
    cancelling: bool = Field(description="Whether it was cancelled, and the process that runs it has yet to see it")
    created_at: datetime
    started_at: Optional[datetime]
    ended_at: Optional[datetime]


class RunPage(BaseModel):
    """Some of the caller's runs, newest first."""

    runs: list[RunStatus]
    next: Optional[UUID] = Field(description="`before` of the next page; null on the last")


def told_of(record: RunRecord, figures: Figures, counts: tuple[int, int, int], *, cancelling: bool) -> RunStatus:
    """What is told of a run; `counts` are its rows that ended ok, doubtful, and with an error."""
    ok, doubtful, errors = counts
    active = record.state not in ENDED
    return RunStatus(
        id=UUID(record.id),
        state=record.state,
        task=record.task,
        rows=record.rows,
        done=ok + doubtful + errors,
        ok=ok,
        doubtful=doubtful,
        errors=errors,
        rows_per_s=figures.rows_per_s,
        left_s=figures.left_s if record.state == "running" else None,
        seconds=figures.seconds,
        accuracy=figures.accuracy,
        reason=record.reason,
        error=record.error,
        retry_at=moment(record.not_before) if record.state == "waiting" else None,
        last_error=figures.last_error,
        cancelling=cancelling and active,
        created_at=moment(record.created),
        started_at=moment(record.started),
        ended_at=moment(record.ended),
    )


def moment(seconds: Optional[float]) -> Any:
    """The time of day, in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Put a file in its place whole or not at all, for nobody else to read. Raises `OSError`."""
    part = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "wb") as file:
            file.write(content)
            if durable:
                flush_and_sync(file)
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)
