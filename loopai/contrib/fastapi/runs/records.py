"""The record of a run in its folder, and the status that callers see. `worker` runs it."""

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
    """The figures of a run, as its worker wrote them last."""

    seconds: float = 0.0
    rows_per_s: float = 0.0
    left_s: Optional[float] = None
    last_error: Optional[str] = None
    accuracy: Optional[float] = None


class RunRecord(BaseModel):
    """A run as its folder stores it: its options and progress. Only the holder of its lock writes it.

    `members` are those of the task's outputs, which CSV has columns for; read when the run begins.
    `again_as` is the generation of the journal that `retry_failed` will make; once it exists, the retry has begun.
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
    """The status of a run: its progress, and why it waits or has stopped."""

    id: UUID
    state: State = Field(
        description="`waiting` runs continue by themselves; `stopped` and `cancelled` runs when they are resumed"
    )
    task: str
    rows: int = Field(description="Rows of the upload")
    done: int = Field(description="Finished rows, which are in the output")
    ok: int
    doubtful: int = Field(description="Rows whose program is less certain than `min_confidence`")
    errors: int = Field(description="Rows that failed")
    rows_per_s: float = Field(description="Rows per second, since the run was last started or resumed")
    left_s: Optional[float] = Field(description="Estimated seconds until the end; null if unknown")
    seconds: float = Field(description="Seconds of work, since the run was last started or resumed")
    accuracy: Optional[float] = Field(description="Share of rows with the right answer; null without `expect`")
    reason: Optional[Reason] = Field(description="Why the run waits or has stopped")
    error: Optional[str] = Field(description="The reason in words")
    retry_at: Optional[datetime] = Field(description="When a run that waits for the Loopai server is tried again")
    last_error: Optional[str] = Field(description="The last error of a row")
    cancelling: bool = Field(description="Whether cancellation was requested and the run has not ended yet")
    created_at: datetime
    started_at: Optional[datetime]
    ended_at: Optional[datetime]


class RunPage(BaseModel):
    """A page of the caller's runs, newest first."""

    runs: list[RunStatus]
    next: Optional[UUID] = Field(description="`before` of the next page; null on the last")


def told_of(record: RunRecord, figures: Figures, counts: tuple[int, int, int], *, cancelling: bool) -> RunStatus:
    """Return the status of a run; `counts` are its rows that are ok, doubtful and failed."""
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
    """Return the time in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file atomically, readable by its user only. Raises `OSError`."""
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
