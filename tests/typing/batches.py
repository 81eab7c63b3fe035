"""What type checkers must see of the batch engine; checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Optional

from typing_extensions import assert_type

from loopai import (
    FileJournal,
    Journal,
    LoopaiClient,
    Outcome,
    OutputError,
    Row,
    Sink,
    Stop,
    Summary,
    SyncLoopaiClient,
)


class Rows:
    """A sink and a journal of the user's own."""

    def write(self, outcomes: Sequence[Outcome]) -> int:
        return len(outcomes)

    def ended(self, row: Row) -> bool:
        return row.key == "7"

    def record(self, outcomes: Sequence[Outcome], length: int) -> None: ...

    def close(self) -> None: ...


async def rows() -> AsyncIterator[dict[str, str]]:
    yield {"id": "1", "text": "Lunch?"}


def read(outcome: Outcome) -> str:
    assert_type(outcome.status, Literal["ok", "doubtful", "error", "cancelled"])
    assert_type(outcome.key, str)
    assert_type(outcome.error, Optional[str])
    assert_type(outcome.latency_ms, Optional[float])
    assert_type(outcome.row, Row)
    if outcome.status == "cancelled":
        return "post it again"
    if outcome.code in {"refused", "unfit"}:
        return "look at the row"
    return str(outcome.output)


def told(summary: Summary) -> str:
    assert_type(summary.ok, int)
    assert_type(summary.errors_by_kind, Mapping[str, int])
    assert_type(summary.quality, Optional[Mapping[str, Any]])
    if summary.ended in {"interrupted", "fatal_error"}:
        return "run it again"
    return summary.ended


async def asynchronous(client: LoopaiClient, stop: Stop) -> None:
    async for outcome in client.batch_stream("spam", rows(), key="id", mapping=["text"], journal="spam.journal"):
        assert_type(outcome, Outcome)
        read(outcome)
    summary = await client.run_batch("spam", "mails.csv", Path("judged.csv"), max_errors="5%", stop=stop)
    assert_type(summary, Summary)
    await client.run_batch("spam", [1, 2], sink=Rows(), journal=Rows(), ordered=True)


def synchronous(client: SyncLoopaiClient, sink: Sink, journal: Journal) -> None:
    for outcome in client.batch_stream(
        "spam", ({"text": str(number)} for number in range(3)), key=lambda row: row["n"]
    ):
        assert_type(outcome, Outcome)
    try:
        assert_type(client.run_batch("spam", "mails.csv", "judged.csv", expect="label"), Summary)
    except OutputError as error:
        told_of = str(error)
        assert_type(told_of, str)
    client.run_batch("spam", [1], sink=sink, journal=journal)
    client.run_batch("spam", [1], sink=Rows(), journal=FileJournal("spam.journal"))
    client.run_batch("spam", "mails.csv", chunksize=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.batch_stream("spam", rows())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # asynchronous


def typos(outcome: Outcome, summary: Summary) -> list[bool]:
    return [
        outcome.status == "okay",  # type: ignore[comparison-overlap]  # pyright: ignore[reportUnnecessaryComparison]
        outcome.code == "unreadible",  # type: ignore[comparison-overlap]  # pyright: ignore[reportUnnecessaryComparison]
        summary.ended == "finised",  # type: ignore[comparison-overlap]  # pyright: ignore[reportUnnecessaryComparison]
    ]
