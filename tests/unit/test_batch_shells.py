"""One engine, two shells: both clients do the same, and the asynchronous one never holds its event loop."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import gc
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable

import pytest

from loopai import AuthenticationException, ConnectionException, JournalError, LoopaiClient
from loopai.batch import (
    BatchOptions,
    FileJournal,
    Outcome,
    Row,
    Snapshot,
    Stop,
    Summary,
    run,
    run_sync,
    stream,
    stream_sync,
)
from loopai.preparation import batch_sender
from loopai.testing import FakeLoopai, ProgramError

LONGEST_STALL = 0.05
"""Seconds that an event loop may be held."""


@pytest.fixture
def fake() -> FakeLoopai:
    made = FakeLoopai()

    def program(given: Any) -> Any:
        if given["n"] % 100 == 13:
            raise ProgramError("thirteen")
        return given["n"] * 2

    made.task("double").computes(program)
    return made


class Watching:
    """Keeps what a watcher is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []
        self.summary: Any = None

    def update(self, snapshot: Snapshot) -> None:
        self.told.append((snapshot.ok, snapshot.errors))

    def finish(self, snapshot: Snapshot, summary: Summary) -> None:
        self.summary = summary


def _rows(count: int) -> Iterator[dict[str, int]]:
    return ({"n": number} for number in range(count))


class Played:
    """A run on a clock of its own, by either client."""

    def __init__(self, kind: str, fake: FakeLoopai) -> None:
        self.kind = kind
        self.fake = fake
        self.now = 0.0
        self.slept: list[float] = []

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def _asleep(self, seconds: float) -> None:
        self._sleep(seconds)

    def _arguments(self, client: Any, rows: Any, options: dict[str, Any], *output: Any) -> tuple[Any, ...]:
        return batch_sender(client), client._task("double"), rows, *output, BatchOptions(**options)

    def stream(self, rows: Any, **options: Any) -> list[Outcome]:
        clock = {"clock": lambda: self.now}
        if self.kind == "sync":
            with self.fake.client() as client:
                return list(stream_sync(*self._arguments(client, rows, options), sleep=self._sleep, **clock))

        async def gather() -> list[Outcome]:
            async with self.fake.async_client() as client:
                given = self._arguments(client, rows, options)
                return [outcome async for outcome in stream(*given, sleep=self._asleep, **clock)]

        return asyncio.run(gather())

    def run(self, rows: Any, output: Any = None, **options: Any) -> Summary:
        clock = {"clock": lambda: self.now}
        if self.kind == "sync":
            with self.fake.client() as client:
                return run_sync(*self._arguments(client, rows, options, output), sleep=self._sleep, **clock)

        async def whole() -> Summary:
            async with self.fake.async_client() as client:
                return await run(*self._arguments(client, rows, options, output), sleep=self._asleep, **clock)

        return asyncio.run(whole())


def _both(act: Callable[[Played], Any]) -> tuple[Any, Any]:
    """What `act` gives with either client, each at a server of its own."""
    made = []
    for kind in ("sync", "async"):
        fake = FakeLoopai()
        fake.task("double").computes(lambda given: given["n"] * 2)
        made.append(act(Played(kind, fake)))
    return made[0], made[1]


def _told(outcomes: Sequence[Outcome]) -> list[tuple[Any, ...]]:
    return [(o.key, o.status, o.output, o.error, o.code, o.attempts) for o in outcomes]


@pytest.mark.parametrize(
    "options",
    [
        {"key": "n"},
        {"key": "n", "ordered": True, "chunk_size": 7},
        {"chunk_size": 1000, "max_in_flight": 1},
        {"limit": 90, "chunk_size": 11, "max_in_flight": 1},
        {"mapping": ["n=missing"], "max_errors": 10, "max_in_flight": 1},
    ],
)
def test_both_clients_give_the_same_outcomes(options: dict[str, Any]) -> None:
    """Row by row: key, status, output, error, attempts."""
    sync, asynchronous = _both(lambda played: sorted(_told(played.stream(_rows(250), **options))))
    assert sync == asynchronous
    assert sync


def test_both_clients_wait_alike_while_the_server_limits_the_rate() -> None:
    """The same pauses, and the watchers are called about every second of them."""

    def act(played: Played) -> Any:
        played.fake.rate_limits(times=1, retry_after=4)
        watching = Watching()
        played.run(_rows(1), watchers=[watching])
        return sum(played.slept), len(watching.told), watching.summary.to_dict()

    sync, asynchronous = _both(act)
    assert sync == asynchronous
    assert sync[0] == pytest.approx(4.0)
    assert sync[1] >= 4


def test_both_clients_end_a_run_alike() -> None:
    """Unreachable, stopped before it began, or by too many errors."""

    def unreachable(played: Played) -> str:
        played.fake.unreachable()
        with pytest.raises(ConnectionException) as caught:
            played.run(_rows(10))
        return str(caught.value)

    def stopped(played: Played) -> str:
        stop = Stop()
        stop()
        return played.run(_rows(10), stop=stop).ended

    def too_many(played: Played) -> str:
        return played.run(_rows(1000), mapping=["n=none"], max_errors="5%").ended

    for act in (unreachable, stopped, too_many):
        sync, asynchronous = _both(act)
        assert sync == asynchronous


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_run_resumes_with_the_other_client(tmp_path: Path, fake: FakeLoopai, kind: str) -> None:
    """Journal and output do not depend on who wrote them."""
    other = {"sync": "async", "async": "sync"}[kind]
    output = tmp_path / "out.jsonl"
    assert Played(kind, fake).run(_rows(50), output, key="n", limit=20).ok == 19
    second = Played(other, fake).run(_rows(50), output, key="n", mode="resume")
    assert (second.ok, second.skipped) == (30, 20)


# The event loop


def _kept_waiting() -> float:
    """Seconds that this thread wanted a processor while the machine's other work had them; 0 where nobody counts."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


class Heart:
    """Measures the longest time that the running loop was held, less what the machine's other work had it wait."""

    def __init__(self) -> None:
        self._stalls: list[float] = []
        self.beats = threading.Semaphore(0)

    async def _beat(self) -> None:
        while True:
            began, waited = time.monotonic(), _kept_waiting()
            await asyncio.sleep(0.005)
            self.beats.release()
            self._stalls.append(time.monotonic() - began - 0.005 - (_kept_waiting() - waited))

    async def __aenter__(self) -> Heart:
        self._task = asyncio.ensure_future(self._beat())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    @property
    def longest(self) -> float:
        return max(self._stalls, default=0.0)


def _csv(path: Path, rows: int) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "n:int"])
        writer.writerows([number, 0] for number in range(rows))
    return path


def _fifo(path: Path, rows: int, heart: Heart) -> Path:
    """A pipe whose writer does nothing unless the loop goes on meanwhile."""
    os.mkfifo(path)

    def write() -> None:
        heart.beats.acquire(timeout=1)
        with open(path, "w") as file:
            for number in range(rows):
                if not number % 500:
                    heart.beats.acquire(timeout=1)
                file.write(json.dumps({"n": 0, "id": number}) + "\n")

    threading.Thread(target=write, daemon=True).start()
    return path


def _source(kind: str, folder: Path, rows: int, heart: Heart) -> tuple[Any, dict[str, Any]]:
    if kind == "path with key":
        return _csv(folder / "in.csv", rows), {"key": "id", "mapping": ["n=n"]}
    if kind == "FIFO":
        return _fifo(folder / "in.jsonl", rows, heart), {"format": "jsonl"}
    journal = {"journal": folder / "rows.journal", "mode": "resume"} if kind == "journal" else {}
    return _rows(rows), {"key": "n", "mapping": ["n:=0"], **journal}


async def _stall(method: str, kind: str, folder: Path, rows: int, *, opens: bool = False) -> float:
    """The longest stall of one run, or of its opening; of a journal, of the run that resumes."""
    fake, heart = FakeLoopai(), Heart()
    fake.task("double").returns(1)
    async with fake.async_client() as client:
        if kind == "journal":
            source, options = _source(kind, folder, 1, heart)
            await _consume(client, method, source, folder, options)
            with FileJournal(options["journal"], _facts(options["journal"])) as journal:
                journal.record([Outcome(Row(str(number), None), "ok") for number in range(100, rows)], journal.length)
        if opens:
            fake.raises(401)
        source, options = _source(kind, folder, 100 if opens and kind == "journal" else rows, heart)
        # What this session of tests has imported is not looked through in the loop's time; what the run makes is.
        gc.collect()
        gc.freeze()
        try:
            async with heart:
                with pytest.raises(AuthenticationException) if opens else contextlib.nullcontext():
                    await _consume(client, method, source, folder, options)
        finally:
            gc.unfreeze()
    return heart.longest


async def _consume(client: LoopaiClient, method: str, source: Any, folder: Path, options: dict[str, Any]) -> None:
    if method == "run_batch":
        await client.run_batch("double", source, folder / "out.jsonl", **options)
        return
    async for _ in client.batch_stream("double", source, **options):
        pass


def _held(method: str, kind: str, rows: int, tmp_path: Path, *, opens: bool = False) -> list[float]:
    """The stalls that were too long, of as many runs as it takes for two to agree: at most three."""
    stalls: list[float] = []
    while len(stalls) < 2 or (len(stalls) == 2 and min(stalls) < LONGEST_STALL <= max(stalls)):
        folder = tmp_path / str(len(stalls))
        folder.mkdir()
        stalls.append(asyncio.run(_stall(method, kind, folder, rows, opens=opens)))
    held = [stall for stall in stalls if stall >= LONGEST_STALL]
    return held if len(held) > 1 else []


METHODS = pytest.mark.parametrize("method", ["batch_stream", "run_batch"])


@METHODS
@pytest.mark.parametrize("kind", ["path with key", "journal"])
def test_opening_a_run_does_not_hold_the_event_loop(method: str, kind: str, tmp_path: Path) -> None:
    """Not while keys are compared, or a journal is replayed; the server refuses the first request."""
    assert not _held(method, kind, 80_000, tmp_path, opens=True)


@METHODS
@pytest.mark.parametrize("kind", ["FIFO", "rows"])
def test_the_event_loop_is_not_held(method: str, kind: str, tmp_path: Path) -> None:
    """Not while a pipe keeps one waiting, or rows are sent."""
    assert not _held(method, kind, 2_000, tmp_path)


@pytest.mark.slow
@METHODS
@pytest.mark.parametrize("kind", ["path with key", "journal", "rows"])
def test_the_event_loop_is_not_held_by_200000_rows(method: str, kind: str, tmp_path: Path) -> None:
    """However many rows there are."""
    assert not _held(method, kind, 200_000, tmp_path)


def test_rows_of_a_pipe_come_as_they_are_written(tmp_path: Path, fake: FakeLoopai) -> None:
    """Each is answered before the next is there, with the loop free meanwhile."""
    pipe = tmp_path / "in.jsonl"
    os.mkfifo(pipe)
    answered = threading.Event()

    def write() -> None:
        with open(pipe, "w") as file:
            for number in range(3):
                file.write(json.dumps({"n": number}) + "\n")
                file.flush()
                assert answered.wait(10)
                answered.clear()

    async def main() -> list[Any]:
        outputs = []
        async with fake.async_client() as client:
            async for outcome in client.batch_stream("double", pipe):
                outputs.append(outcome.output)
                answered.set()
        return outputs

    writing = threading.Thread(target=write, daemon=True)
    writing.start()
    assert asyncio.run(asyncio.wait_for(main(), 20)) == [0, 2, 4]
    writing.join(10)


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl"])
def test_a_pipe_that_nobody_writes_to_can_be_given_up(tmp_path: Path, fake: FakeLoopai, name: str) -> None:
    """A cancellation does not wait for somebody who may never come."""
    pipe = tmp_path / name
    os.mkfifo(pipe)

    async def main() -> None:
        async with fake.async_client() as client:
            run = asyncio.ensure_future(client.run_batch("double", pipe, tmp_path / "out.jsonl"))
            await asyncio.sleep(0)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run

    asyncio.run(asyncio.wait_for(main(), 10))
    for thread in threading.enumerate():
        # It ends once the pipe was written to, and may only be about to open it.
        while thread.name == "loopai-batch-open" and thread.is_alive():
            os.close(os.open(pipe, os.O_RDWR))
            thread.join(0.01)


def test_a_cancelled_opening_lets_go_of_its_journal(tmp_path: Path, fake: FakeLoopai) -> None:
    """Cancelled while keys are compared: the next run may begin at once."""
    given = _csv(tmp_path / "in.csv", 200_000)
    output = tmp_path / "out.jsonl"

    async def main() -> Summary:
        async with fake.async_client() as client:
            options: dict[str, Any] = {"key": "id", "mapping": ["n=n"], "limit": 10}
            first = asyncio.ensure_future(client.run_batch("double", given, output, **{**options, "limit": None}))
            await asyncio.sleep(0)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            return await client.run_batch("double", given, output, **options)

    assert asyncio.run(main()).ok == 10


class _Blocking:
    """An output or journal whose first write waits until it is let go."""

    def __init__(self) -> None:
        self.writing = threading.Event()
        self.let_go = threading.Event()
        self.wrote = 0

    def write(self, content: bytes) -> int:
        self.writing.set()
        assert self.let_go.wait(10)
        self.wrote += 1
        return len(content)

    def flush(self) -> None:
        """Nothing is buffered."""

    def ended(self, row: Any) -> bool:
        return False

    def record(self, outcomes: Sequence[Outcome], length: int) -> None:
        self.write(b"")


async def _is_set(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 10)


def test_a_cancelled_run_waits_for_the_write_in_progress(tmp_path: Path, fake: FakeLoopai) -> None:
    """Only then does its journal close, with that write recorded."""
    journal, output = tmp_path / "rows.journal", _Blocking()

    async def main() -> None:
        async with fake.async_client() as client:
            run = asyncio.ensure_future(client.run_batch("double", _rows(5), output, key="n", journal=journal))  # type: ignore[arg-type]  # what of a stream is used
            await _is_set(output.writing)
            run.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
            assert not run.done()
            with pytest.raises(JournalError, match="another run is using"):
                FileJournal(journal)
            output.let_go.set()
            with pytest.raises(asyncio.CancelledError):
                await run

    asyncio.run(main())
    assert output.wrote
    with FileJournal(journal, json.loads(json.dumps(_facts(journal)))) as kept:
        assert kept.ok == 5


def _facts(journal: Path) -> dict[str, Any]:
    start = journal.read_bytes().split(b"\n", 1)[1]
    text = start[start.index(b"{") :]
    facts, _ = json.JSONDecoder().raw_decode(text.decode("latin-1"))
    facts.pop("(generation)", None)
    return dict(facts)


def test_closing_a_stream_waits_for_the_record_in_progress(fake: FakeLoopai) -> None:
    """`aclose()` returns once what the loop went past is recorded."""
    journal = _Blocking()

    async def main() -> bool:
        async with fake.async_client() as client:
            outcomes = client.batch_stream("double", _rows(5), key="n", journal=journal, ordered=True)
            async for _ in outcomes:
                break
            closing = asyncio.ensure_future(outcomes.aclose())
            await _is_set(journal.writing)
            done = closing.done()
            journal.let_go.set()
            await closing
            return done

    assert asyncio.run(main()) is False
    assert journal.wrote == 1


def test_the_callers_rows_are_pulled_where_the_caller_is(fake: FakeLoopai) -> None:
    """A database session or a cursor belongs to its thread."""
    threads: set[int] = set()

    def rows() -> Iterator[dict[str, int]]:
        for number in range(300):
            threads.add(threading.get_ident())
            yield {"n": number}

    async def main() -> None:
        async with fake.async_client() as client:
            await client.run_batch("double", rows(), key="n")

    asyncio.run(main())
    with fake.client() as client:
        client.run_batch("double", rows(), key="n")
    assert threads == {threading.get_ident()}


def test_an_exception_in_the_start_of_a_thread_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a second Ctrl-C may come there: the thread works already, and is told to end."""
    started: list[threading.Thread] = []
    released = threading.Event()
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        started.append(thread)
        if thread.name == "loopai-batch-1":
            released.set()
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    fake = FakeLoopai()
    fake.task("double").computes(lambda given: released.wait(30))
    with fake.client() as client, pytest.raises(KeyboardInterrupt):
        client.run_batch("double", [{"n": n} for n in range(100)], chunk_size=10)
    assert "loopai-batch-1" in {thread.name for thread in started}
    for thread in started:
        thread.join(5)
        assert not thread.is_alive()


def test_short_runs_share_a_thread() -> None:
    """Starting a thread may take longer than a small run's request, so a run uses the thread of an earlier one."""
    threads: list[threading.Thread] = []
    fake = FakeLoopai()
    fake.task("double").computes(lambda given: threads.append(threading.current_thread()))
    with fake.client() as client:
        for _ in range(20):
            client.run_batch("double", [{"n": 1}])
    assert len(threads) == 20
    assert threading.current_thread() not in threads
    # More than one where a run began before the thread of the run before it was free again.
    assert len(set(threads)) < 10
