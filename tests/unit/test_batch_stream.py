"""`stream` and `stream_sync` as a caller has them, over a Loopai in memory."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from loopai import ConfigurationError, ConnectionException, LoopaiClient
from loopai.batch import BatchOptions, DuplicateKeys, Outcome, Row, Snapshot, Stop, Summary, stream, stream_sync
from loopai.preparation import batch_sender
from loopai.testing import FakeLoopai, ProgramError

Collect = Callable[..., list[Outcome]]
TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"


@pytest.fixture
def fake() -> FakeLoopai:
    made = FakeLoopai()

    def program(given: Any) -> Any:
        if given["n"] == 13:
            raise ProgramError("thirteen")
        return given["n"] * 2

    made.task("double").computes(program)
    return made


def started(client: Any, rows: Any, options: dict[str, Any]) -> tuple[Any, ...]:
    """What `batch_stream` hands to the engine, for tests that choose clock and pauses."""
    return batch_sender(client), client._task("double"), rows, BatchOptions(**{"mode": "resume", **options})


@pytest.fixture(params=["async", "sync"])
def collect(request: pytest.FixtureRequest, fake: FakeLoopai) -> Collect:
    """The outcomes of a stream, by either client; no pause is waited for."""

    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    async def asleep(seconds: float) -> None:
        sleep(seconds)

    def run(rows: Any, **options: Any) -> list[Outcome]:
        if request.param == "sync":
            with fake.client() as client:
                return list(stream_sync(*started(client, rows, options), sleep=sleep, clock=lambda: now[0]))

        async def gather() -> list[Outcome]:
            async with fake.async_client() as client:
                return [
                    outcome
                    async for outcome in stream(*started(client, rows, options), sleep=asleep, clock=lambda: now[0])
                ]

        return asyncio.run(gather())

    return run


def _rows(count: int) -> Iterator[dict[str, int]]:
    return ({"n": number} for number in range(count))


def test_each_row_ends_with_its_own_result(fake: FakeLoopai, collect: Collect) -> None:
    """Key, output or error, latency and attempts; a row that fails raises nothing."""
    found = {outcome.key: outcome for outcome in collect(_rows(250), key="n", chunk_size=100)}
    assert len(found) == 250
    assert [request.method for request in fake.requests] == ["GET", "POST", "POST", "POST"]
    assert (found["7"].status, found["7"].output, found["7"].attempts) == ("ok", 14, 1)
    assert (found["13"].status, found["13"].error, found["13"].code) == ("error", "thirteen", "program")
    assert found["7"].latency_ms is not None


def test_what_goes_over_the_wire(fake: FakeLoopai, collect: Collect) -> None:
    """Keys are the items' ids; concurrency, timeout and version go with each request."""
    collect([{"id": "a", "x": {"n": 1}}], key="id", mapping=["n=x.n"], max_concurrency=3, timeout_ms=700, version=2)
    (call,) = fake.task("double").calls
    assert (call.item_id, call.input, call.timeout_ms, call.version) == ("a", {"n": 1}, 700, 2)


def test_without_key_rows_are_numbered_and_ordered_keeps_their_order(collect: Collect) -> None:
    """From 1, as lines are."""
    assert [outcome.key for outcome in collect(_rows(120), ordered=True, chunk_size=7)] == [
        str(number) for number in range(1, 121)
    ]


def test_keys_may_be_functions_paths_or_rows_of_ones_own(collect: Collect) -> None:
    """A `Row` carries its key itself."""
    assert [o.key for o in collect([{"n": 1, "m": {"id": 5}}], key="m.id")] == ["5"]
    assert [o.key for o in collect([{"n": 1}], key=lambda row: f"k{row['n']}")] == ["k1"]
    assert [(o.key, o.output) for o in collect([Row("mine", {"n": 4})])] == [("mine", 8)]


def test_a_row_without_its_key_is_that_rows_error(collect: Collect) -> None:
    """The others run."""
    found = collect([{"id": "a", "n": 1}, {"n": 2}, {"id": None, "n": 3}], key="id", ordered=True)
    assert [outcome.status for outcome in found] == ["ok", "error", "error"]
    assert "no column 'id'" in (found[1].error or "")
    assert "null" in (found[2].error or "")


def test_a_key_that_recurs_is_named_with_both_lines_as_it_goes(fake: FakeLoopai, collect: Collect) -> None:
    """A stream can be read only once: the first is taken, the second ends as an error, unless allowed."""
    rows = [{"id": "a", "n": 1}, {"id": "b", "n": 2}, {"id": "a", "n": 3}]
    found = collect(iter(rows), key="id", ordered=True)
    assert [outcome.status for outcome in found] == ["ok", "ok", "error"]
    assert found[2].code == "duplicate"
    assert "'a' is on lines 1 and 3" in (found[2].error or "")
    allowed = collect(iter(rows), key="id", ordered=True, allow_duplicates=True)
    assert [outcome.output for outcome in allowed] == [2, 4, 6]


def test_the_path_of_a_file_is_read_as_rows(tmp_path: Path, fake: FakeLoopai, collect: Collect) -> None:
    """And a key that recurs in it is refused before anything is sent."""
    path = tmp_path / "in.csv"
    path.write_text("id,n:int\na,1\nb,x\nc,3\n")
    found = collect(path, key="id", mapping=["n=n"], ordered=True)
    assert [(o.key, o.output, o.error) for o in found] == [
        ("a", 2, None), ("line 3", None, "line 3: n is 'x', which is not a valid int"), ("c", 6, None),
    ]  # fmt: skip
    path.write_text("id,n:int\na,1\na,2\n")
    before = len(fake.requests)
    with pytest.raises(DuplicateKeys, match="lines 2 and 3"):
        collect(path, key="id")
    assert len(fake.requests) == before


def test_rationing_is_waited_out_and_faults_are_repeated(fake: FakeLoopai, collect: Collect) -> None:
    """The caller sees neither."""
    fake.rate_limits(times=3, retry_after=30)
    fake.unreachable(times=1)
    assert {outcome.status for outcome in collect(_rows(10), key="n")} == {"ok"}


def test_a_server_that_is_gone_raises_after_the_rows_were_cancelled(fake: FakeLoopai, collect: Collect) -> None:
    """The error is the connection's."""
    fake.unreachable()
    with pytest.raises(ConnectionException):
        collect(_rows(10))


def test_inputs_that_json_cannot_say_end_alone(collect: Collect) -> None:
    """A set, NaN, an object: the error says which member."""
    found = collect([{"n": 1}, {"n": {1}}, {"n": float("nan")}, {"n": object()}, {"n": 2}], ordered=True)
    assert [outcome.status for outcome in found] == ["ok", "error", "error", "error", "ok"]
    assert {outcome.code for outcome in found[1:4]} == {"unsendable"}


def test_a_journal_passes_over_what_the_loop_went_past(tmp_path: Path, fake: FakeLoopai, collect: Collect) -> None:
    """The second run sends the rest; with retry_failed, also what failed."""
    journal = tmp_path / "rows.journal"
    assert len(collect(_rows(30), key="n", limit=20, journal=journal)) == 20
    assert len(collect(_rows(30), key="n", journal=journal)) == 10
    assert [outcome.key for outcome in collect(_rows(30), key="n", journal=journal, mode="retry_failed")] == ["13"]
    assert fake.task("double").call_count == 31


def test_a_loop_that_breaks_off_has_its_last_rows_again(tmp_path: Path, fake: FakeLoopai) -> None:
    """What the loop's body did not go past may not have been dealt with."""
    journal = tmp_path / "rows.journal"
    with fake.client() as client:
        seen = []
        for outcome in client.batch_stream("double", _rows(10), key="n", journal=journal, ordered=True):
            seen.append(outcome.key)
            if outcome.key == "4":
                break
        rest = [
            outcome.key for outcome in client.batch_stream("double", _rows(10), key="n", journal=journal, ordered=True)
        ]
    assert seen == ["0", "1", "2", "3", "4"]
    assert rest == ["4", "5", "6", "7", "8", "9"]


def test_stop_ends_the_run_and_cancels_what_was_pulled(fake: FakeLoopai, collect: Collect) -> None:
    """Rows that nobody pulled have no outcome."""
    stop = Stop()

    def rows() -> Iterator[dict[str, int]]:
        for number in range(1000):
            if number == 45:
                stop()
            yield {"n": number}

    found = collect(rows(), key="n", chunk_size=10, max_in_flight=1, stop=stop)
    counts = {status: sum(outcome.status == status for outcome in found) for status in ("ok", "error", "cancelled")}
    assert counts == {"ok": 39, "error": 1, "cancelled": 10}


def test_max_errors_stops_without_raising(fake: FakeLoopai, collect: Collect) -> None:
    """The outcomes tell."""
    fake.task("double").fails("no")
    found = collect(_rows(10_000), chunk_size=10, max_errors=3)
    assert 3 < len(found) < 1000
    assert {outcome.status for outcome in found} <= {"error", "cancelled"}


def test_asynchronous_rows_are_pulled_while_replies_come(fake: FakeLoopai) -> None:
    """A row that keeps one waiting does not hold up those under way; a part of a chunk goes when nothing else does."""

    async def main() -> list[str]:
        got = asyncio.Event()
        keys = []

        async def rows() -> AsyncIterator[dict[str, int]]:
            yield {"n": 1}
            yield {"n": 2}
            await got.wait()  # the third comes only when the first is done
            yield {"n": 3}

        async with fake.async_client() as client:
            async for outcome in client.batch_stream("double", rows(), key="n", chunk_size=100):
                keys.append(outcome.key)
                got.set()
        return keys

    assert asyncio.run(asyncio.wait_for(main(), 10)) == ["1", "2", "3"]


def test_an_exception_of_the_rows_is_the_callers(fake: FakeLoopai, collect: Collect) -> None:
    """It is not taken for the end."""

    def rows() -> Iterator[dict[str, int]]:
        yield {"n": 1}
        raise RuntimeError("the database went away")

    with pytest.raises(RuntimeError, match="went away"):
        collect(rows())

    async def arows() -> AsyncIterator[dict[str, int]]:
        yield {"n": 1}
        raise RuntimeError("the database went away")

    async def main() -> None:
        async with fake.async_client() as client:
            [outcome async for outcome in client.batch_stream("double", arows())]

    with pytest.raises(RuntimeError, match="went away"):
        asyncio.run(main())


def test_asynchronous_rows_need_the_asynchronous_client(fake: FakeLoopai) -> None:
    """No event loop is made behind the caller's back."""

    async def rows() -> AsyncIterator[int]:
        yield 1

    with fake.client() as client, pytest.raises(TypeError, match="synchronous rows"):
        list(client.batch_stream("double", rows()))  # type: ignore[arg-type]  # the mistake under test


def test_breaking_off_leaves_no_task_and_no_thread(fake: FakeLoopai) -> None:
    """What is under way is cancelled, or ends by itself."""

    async def main() -> set[Any]:
        async with fake.async_client() as client:
            outcomes = client.batch_stream("double", _rows(1000), chunk_size=10)
            async for _ in outcomes:
                break
            await outcomes.aclose()
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(main()) == set()
    with fake.client() as client:
        for _ in client.batch_stream("double", _rows(1000), chunk_size=10):
            break
    for thread in threading.enumerate():
        if thread.name.startswith("loopai-batch"):
            thread.join(5)
            assert not thread.is_alive()


class _UnderWay:
    """Notes how many requests are under way, and how many rows have ended, each time outcomes were kept."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def update(self, snapshot: Snapshot) -> None:
        self.seen.append((snapshot.in_flight, snapshot.done))

    def finish(self, snapshot: Snapshot, summary: Summary) -> None:
        pass


class _AnswersFourAtOnce(FakeLoopai):
    """A server whose replies come only once four requests are in flight: one in memory is done before the next is."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[asyncio.Event] = []
        self._four = threading.Barrier(4)

    async def asend(self, request: Any) -> Any:
        answer = super().send(request)
        if "/batch/" in request.url:
            self._waiting.append(asyncio.Event())
            mine = self._waiting[-1]
            if len(self._waiting) == 4:
                for event in self._waiting:
                    event.set()
                self._waiting = []
            await mine.wait()
        return answer

    def send(self, request: Any) -> Any:
        answer = super().send(request)
        if "/batch/" in request.url:
            self._four.wait(60)
        return answer


@pytest.mark.parametrize("asynchronous", [True, False])
def test_requests_are_under_way_while_outcomes_are_kept(tmp_path: Path, asynchronous: bool) -> None:
    """Outcomes wait for the requests that may go out: the server works while a disk or database does."""
    fake = _AnswersFourAtOnce()
    fake.task("double").computes(lambda given: given["n"] * 2)
    watcher, output = _UnderWay(), tmp_path / "out.jsonl"
    options: dict[str, Any] = {"chunk_size": 10, "max_in_flight": 4, "watchers": [watcher]}
    if asynchronous:
        asyncio.run(fake.async_client().run_batch("double", _rows(200), output, **options))
    else:
        fake.client().run_batch("double", _rows(200), output, **options)
    assert watcher.seen[-1][1] == 200
    assert [in_flight for in_flight, _ in watcher.seen] == [min(4, 20 - done // 10) for _, done in watcher.seen]


class _Deaf:
    """A transport that overhears the first cancellation, as a library's fault might."""

    def __init__(self) -> None:
        self.called = asyncio.Event()

    async def asend(self, request: Any) -> Any:
        self.called.set()
        for _ in range(2):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        raise asyncio.CancelledError

    async def aclose(self) -> None:
        pass


def test_breaking_off_ends_though_a_cancellation_is_lost() -> None:
    """The request under way is cancelled again, not waited for until its time-out."""

    async def main() -> set[Any]:
        before = asyncio.all_tasks()
        transport = _Deaf()
        async with LoopaiClient(transport=transport, timeout=None) as client:
            outcomes = client.batch_stream(TASK, _rows(10))
            first = asyncio.ensure_future(outcomes.__anext__())
            await transport.called.wait()
            first.cancel()
            await asyncio.wait({first})
        return asyncio.all_tasks() - before

    assert asyncio.run(asyncio.wait_for(main(), 10)) == set()


class _Broken(FakeLoopai):
    """A proxy on the way sends another request's reply, once; then half of one; then the same row twice."""

    def __init__(self) -> None:
        super().__init__()
        self.spoil: list[Callable[[bytes], bytes]] = []

    def send(self, request: Any) -> Any:
        answer = super().send(request)
        if self.spoil and "/batch/" in request.url:
            return type(answer)(answer.status, answer.headers, self.spoil.pop(0)(answer.content))
        return answer


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b'"id":"3"', b'"id":"99"'),
        lambda content: content.replace(b'"id":"3"', b'"id":"4"'),
        lambda content: b'{"results": []}',
        lambda content: b"[]",
        lambda content: b'{"results": [3]}',
        lambda content: b"<html>",
    ],
    ids=["half", "foreign", "twice", "none", "list", "numbers", "html"],
)
def test_a_reply_that_is_not_this_requests_is_not_believed(spoil: Callable[[bytes], bytes]) -> None:
    """The chunk is asked again; no row gets another's result."""
    fake = _Broken()
    fake.task("double").computes(lambda given: given["n"] * 2)
    fake.spoil.append(spoil)
    with fake.client() as client:
        now = [0.0]
        options: dict[str, Any] = {"sleep": lambda seconds: now.append(now.pop() + seconds), "clock": lambda: now[0]}
        found = list(stream_sync(*started(client, _rows(10), {"key": "n"}), **options))
    assert {outcome.key: outcome.output for outcome in found} == {str(number): number * 2 for number in range(10)}
    assert {outcome.attempts for outcome in found} == {2}


def test_options_that_do_not_fit_are_refused(fake: FakeLoopai) -> None:
    """Before a row is pulled."""

    def rows() -> Iterable[Any]:
        raise AssertionError("pulled")
        yield

    with fake.client() as client:
        for options in (
            {"chunk_size": 0},
            {"max_in_flight": 0},
            {"max_concurrency": 101},
            {"timeout_ms": 0},
            {"limit": -1},
        ):
            with pytest.raises(ConfigurationError):
                list(client.batch_stream("double", rows(), **options))


def test_a_bug_in_the_transport_is_raised_not_counted(fake: FakeLoopai, collect: Collect) -> None:
    """Only the kinds of LoopaiException are the server's."""
    fake.task("double").computes(lambda given: given["missing"])
    with pytest.raises(KeyError):
        collect(_rows(3))


def test_timeouts_of_one_chunk_do_not_end_the_run(fake: FakeLoopai, collect: Collect) -> None:
    """A passing one is repeated."""
    fake.times_out(times=2)
    assert {outcome.status for outcome in collect(_rows(5), key="n")} == {"ok"}
