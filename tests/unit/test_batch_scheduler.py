"""What a run does next, on a clock that only the test moves: chunks, pauses, splits, stops."""

from __future__ import annotations

from typing import Any, Callable

import pytest

from loopai import (
    AuthenticationException,
    ConfigurationError,
    ConnectionException,
    ExecutionException,
    LoopaiException,
    NotFoundException,
    RateLimitException,
    ServerException,
    TimeoutException,
    ValidationException,
)
from loopai.batch.engine.chunks import AloneFirst, Chunk, Replies, TooLarge, Unsendable
from loopai.batch.engine.scheduler import GIVE_UP_AFTER, Done, Pull, Scheduler, Send, Wait
from loopai.batch.engine.throttle import LARGEST_CHUNK, Throttle
from loopai.batch.options import BatchOptions
from loopai.batch.rows import Outcome, Row
from loopai.models import ReplyInfo

Server = Callable[[Chunk], Any]


class Played:
    """A run against a server that answers at once, one request after another or many together."""

    def __init__(self, rows: int, server: Server, **limits: Any) -> None:
        self.now = 1000.0
        self.scheduler = Scheduler(BatchOptions(**limits), rng=lambda: 0.0, time_of_day=lambda: 1_700_000_000.0)
        self.left = [Row(f"k{number}", number) for number in range(rows)]
        self.server = server
        self.sent: list[list[str]] = []
        self.times: list[float] = []
        self.waits: list[float] = []
        self.most_in_flight = 0
        self.outcomes: list[Outcome] = []

    def run(self, steps: int = 10_000) -> Played:
        under_way: list[Chunk] = []
        for _ in range(steps):
            step = self.scheduler.next(self.now)
            if isinstance(step, Send):
                under_way.append(step.chunk)
                self.sent.append([row.key for row in step.chunk.rows])
                self.times.append(self.now)
                self.most_in_flight = max(self.most_in_flight, len(under_way))
            elif isinstance(step, Pull):
                self.scheduler.offer(self.left[: step.rows])
                del self.left[: step.rows]
                if not self.left:
                    self.scheduler.exhaust()
            elif under_way:
                self.now += 0.1
                chunk = under_way.pop(0)
                answer = self.server(chunk)
                if isinstance(answer, LoopaiException):
                    self.scheduler.failed(chunk, answer, self.now)
                else:
                    self.scheduler.answered(chunk, answer, self.now)
            elif isinstance(step, Wait):
                assert step.seconds is not None, "nothing is under way, and nothing to wait for"
                self.waits.append(step.seconds)
                self.now += step.seconds
            else:
                assert isinstance(step, Done)
                self.scheduler.cancel_rest()
                self.outcomes += self.scheduler.take()
                return self
            self.outcomes += self.scheduler.take()
        raise AssertionError("the run does not end")

    def statuses(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for outcome in self.outcomes:
            found[outcome.status] = found.get(outcome.status, 0) + 1
        return found


def _ok(chunk: Chunk) -> Replies:
    return Replies([{"id": row.key, "success": True, "output": row.input} for row in chunk.rows], 100 * len(chunk))


def _keys(outcomes: list[Outcome]) -> list[str]:
    return [outcome.key for outcome in outcomes]


def test_every_row_ends_once_in_chunks_of_the_size_asked_for() -> None:
    """250 rows by 100 are three requests, at most so many at a time."""
    played = Played(250, _ok, chunk_size=100, max_in_flight=2).run()
    assert [len(keys) for keys in played.sent] == [100, 100, 50]
    assert sorted(_keys(played.outcomes)) == sorted(f"k{number}" for number in range(250))
    assert played.most_in_flight == 2
    assert played.outcomes[7].output == 7


def test_rows_are_pulled_only_as_fast_as_they_are_sent() -> None:
    """With everything under way that may be, nothing more is asked for."""
    scheduler = Scheduler(BatchOptions(chunk_size=10, max_in_flight=2))
    for _ in range(2):
        assert scheduler.next(0.0) == Pull(10)
        scheduler.offer([Row(str(number), number) for number in range(10)])
        assert isinstance(scheduler.next(0.0), Send)
    assert scheduler.next(0.0) == Wait(None)


def test_a_429_pauses_the_whole_run_for_as_long_as_it_says() -> None:
    """All requests wait, and the refused rows go again; no row counts it as an attempt."""
    refused = iter([RateLimitException("slow down", retry_after=7.0, status_code=429)])
    played = Played(500, lambda chunk: next(refused, None) or _ok(chunk), chunk_size=100, max_in_flight=1).run()
    assert played.waits == [pytest.approx(7.0)]
    assert played.statuses() == {"ok": 500}
    assert {outcome.attempts for outcome in played.outcomes} == {1}


def test_the_limiters_500_pauses_a_minute() -> None:
    """It says nothing; its window is a minute."""
    refused = iter([RateLimitException("limiter", status_code=500)])
    played = Played(100, lambda chunk: next(refused, None) or _ok(chunk)).run()
    assert played.waits == [pytest.approx(60.0)]


def test_a_503_pauses_the_whole_run_too() -> None:
    """As long as it says, or by backoff."""
    down = iter(
        [ServerException("restarting", retry_after=4.0, status_code=503), ServerException("x", status_code=503)]
    )
    played = Played(100, lambda chunk: next(down, None) or _ok(chunk)).run()
    assert played.waits[0] == pytest.approx(4.0)
    assert played.statuses() == {"ok": 100}
    assert [len(keys) for keys in played.sent] == [100, 100, 100]


def test_a_used_up_budget_pauses_before_the_refusal() -> None:
    """The headers of a reply that was allowed say when there will be more."""
    spent = iter([True])

    def server(chunk: Chunk) -> Replies:
        replies = _ok(chunk)
        headers = {"x-rate-limit-remaining": "0", "x-rate-limit-reset": "2023-11-14T22:13:45.0000000Z"}
        replies._reply = ReplyInfo(200, headers if next(spent, False) else {}, 0.1, 1, 0.0, 0.0)
        return replies

    assert Played(200, server, max_in_flight=1).run().waits == [pytest.approx(25.0, abs=0.2)]


def test_chunks_grow_where_requests_are_rationed() -> None:
    """Twice as large after each refusal, as requests are counted and rows are not."""
    played = Played(1500, _ok, chunk_size=100, max_in_flight=1)
    answers = iter([RateLimitException("r", retry_after=1.0), None, RateLimitException("r", retry_after=1.0)])
    played.server = lambda chunk: next(answers, None) or _ok(chunk)
    played.run()
    assert [len(keys) for keys in played.sent] == [100, 100, 200, 200, 400, 400, 400]
    assert played.statuses() == {"ok": 1500}


def test_chunks_grow_towards_a_byte_limit() -> None:
    """Rows of 100,000 bytes never make a request above the limit."""
    pace = Throttle(4, 100)
    pace.weigh(100 * 100_000, 100)
    for moment in range(10):
        pace.refused(float(moment), float(moment))
    assert pace.rows > 1000
    assert pace.chunk_rows() * 100_000 <= LARGEST_CHUNK


def test_a_chunk_whose_request_is_too_large_is_halved_unsent() -> None:
    """And the next ones are smaller from the start."""

    def server(chunk: Chunk) -> Any:
        size = len(chunk) * 100_000
        return TooLarge(size) if size > LARGEST_CHUNK else Replies(_ok(chunk).results, size)

    played = Played(200, server, chunk_size=100, max_in_flight=1).run()
    assert [len(keys) for keys in played.sent[:3]] == [100, 50, 25]
    assert max(len(keys) for keys in played.sent[8:]) <= 40
    assert played.statuses() == {"ok": 200}
    assert {outcome.attempts for outcome in played.outcomes} == {1}


def test_a_row_that_json_cannot_say_ends_alone() -> None:
    """The rest of its chunk is sent."""
    played = Played(3, _ok)
    answers = iter([Unsendable({1: "a set has no order"})])
    played.server = lambda chunk: next(answers, None) or _ok(chunk)
    played.run()
    assert played.statuses() == {"ok": 2, "error": 1}
    assert [(outcome.key, outcome.error, outcome.code) for outcome in played.outcomes if not outcome.ok] == [
        ("k1", "a set has no order", "unsendable")
    ]


@pytest.mark.parametrize(
    "error",
    [
        ValidationException("bad item", errors={"items[0].input": ["no"]}, status_code=400),
        ExecutionException("batch failed", status_code=500, code="BATCH_EXECUTION_ERROR"),
        ConnectionException("reset"),
        TimeoutException("too slow"),
        ServerException("worker died", status_code=502),
        ServerException("unreadable reply", status_code=200),
    ],
    ids=["400", "500", "reset", "timeout", "502", "not-a-reply"],
)
def test_one_poisonous_row_ends_as_one_error(error: LoopaiException) -> None:
    """A chunk that fails as a whole is split until the row is alone; all others end ok."""
    played = Played(400, lambda chunk: error if any(row.key == "k137" for row in chunk.rows) else _ok(chunk)).run()
    assert played.statuses() == {"ok": 399, "error": 1}
    assert len(played.outcomes) == 400
    failed = next(outcome for outcome in played.outcomes if not outcome.ok)
    assert (failed.key, failed.code) == ("k137", "refused")
    assert error.message in (failed.error or "")
    assert len(played.sent) < 30


def test_a_refused_connection_is_no_row_s_doing() -> None:
    """However often a row that goes alone meets one while others get through: the server saw nothing of it."""
    refused = ConnectionException("connection refused")
    refused.arrived = False
    met = iter([refused] * 5)
    poison = ServerException("cannot be written", status_code=500, code="INTERNAL_ERROR")

    def server(chunk: Chunk) -> Any:
        if len(chunk) == 1 and chunk.rows[0].key == "k2":
            return next(met, None) or _ok(chunk)
        return poison if any(row.key == "k3" for row in chunk.rows) else _ok(chunk)

    played = Played(40, server, chunk_size=4, max_in_flight=4).run()
    assert [(outcome.key, outcome.code) for outcome in played.outcomes if not outcome.ok] == [("k3", "refused")]


def test_a_passing_fault_is_repeated_and_leaves_no_trace_but_attempts() -> None:
    """The chunk goes again as it was."""
    faults = iter([ConnectionException("reset")])
    played = Played(100, lambda chunk: next(faults, None) or _ok(chunk)).run()
    assert played.sent[0] == played.sent[1]
    assert {(outcome.status, outcome.attempts) for outcome in played.outcomes} == {("ok", 2)}


def test_a_server_that_is_gone_stops_the_run_and_blames_no_row() -> None:
    """After about half a minute of trying; the rows are cancelled, to be resumed."""
    played = Played(1000, lambda chunk: ConnectionException("refused"), chunk_size=100).run()
    assert played.scheduler.stopped == "unreachable"
    assert isinstance(played.scheduler.error, ConnectionException)
    assert set(played.statuses()) == {"cancelled"}
    assert 15 < played.now - 1000 < 60
    assert len(played.sent) < GIVE_UP_AFTER * 4


def test_a_server_that_comes_back_is_waited_for() -> None:
    """A restart of ten seconds costs no row."""
    played = Played(1000, _ok, chunk_size=100)
    played.server = lambda chunk: ConnectionException("refused") if played.now < 1010 else _ok(chunk)
    assert played.run().statuses() == {"ok": 1000}


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationException("no key", status_code=401),
        NotFoundException("no such path", status_code=404),
        ValidationException("bad", errors={"timeout_ms": ["too long"]}, status_code=400),
        ValidationException("bad", code="INVALID_CONCURRENCY", status_code=400),
    ],
)
def test_what_every_request_would_meet_ends_the_run_at_once(error: LoopaiException) -> None:
    """Not row by row."""
    played = Played(1000, lambda chunk: error, max_in_flight=1).run()
    assert (played.scheduler.stopped, played.scheduler.error) == ("fatal_error", error)
    assert len(played.sent) == 1
    assert played.statuses() == {"cancelled": 100}


def test_a_certificate_that_is_refused_ends_the_run_at_once() -> None:
    """The next attempt would meet the same certificate; the rows are cancelled, to be resumed."""
    error = ConnectionException("the certificate is not trusted")
    error.retryable = False
    played = Played(1000, lambda chunk: error, max_in_flight=1).run()
    assert (played.scheduler.stopped, played.scheduler.error) == ("unreachable", error)
    assert len(played.sent) == 1
    assert played.statuses() == {"cancelled": 100}


def test_concurrency_halves_on_faults_and_grows_back_by_ones() -> None:
    """Between 1 and the limit; what failed together counts once."""
    pace = Throttle(8, 100)
    for _ in range(5):
        pace.failed(sent_at=10.0, now=11.0)
    assert pace.limit == 4
    pace.failed(sent_at=12.0, now=13.0)
    pace.failed(sent_at=14.0, now=15.0)
    pace.failed(sent_at=16.0, now=17.0)
    assert pace.limit == 1
    pace.succeeded()
    assert pace.limit == 2
    for _ in range(100):
        pace.succeeded()
    assert pace.limit == 8


def test_ordered_outcomes_come_in_the_rows_order_and_hold_little() -> None:
    """A chunk that is late delays what comes after it, and pulling stops before much is held."""
    scheduler = Scheduler(BatchOptions(chunk_size=10, max_in_flight=4, ordered=True))
    chunks: list[Chunk] = []
    offered = 0
    out: list[Outcome] = []
    for _ in range(200):
        step = scheduler.next(0.0)
        if isinstance(step, Pull):
            scheduler.offer([Row(str(number), number) for number in range(offered, offered + step.rows)])
            offered += step.rows
        elif isinstance(step, Send):
            chunks.append(step.chunk)
        elif len(chunks) > 1:
            last = chunks.pop()
            scheduler.answered(last, _ok(last), 0.0)
        else:
            break
        out += scheduler.take()
    assert out == []
    assert offered <= 10 * 4 * 2 + 10
    scheduler.answered(chunks[0], _ok(chunks[0]), 0.0)
    assert _keys(scheduler.take()) == [str(number) for number in range(offered)]


@pytest.mark.parametrize(
    ("max_errors", "rows", "every", "stopped"),
    [
        (5, 1000, 10, True),
        (100, 1000, 10, False),
        ("5%", 1000, 10, True),
        ("15%", 1000, 10, False),
        (0, 1000, 999, True),
    ],
)
def test_max_errors_stops_early(max_errors: Any, rows: int, every: int, stopped: bool) -> None:
    """Above the count, or above the share once a hundred rows have ended; what was pulled is cancelled."""

    def server(chunk: Chunk) -> Replies:
        return Replies([
            {"id": row.key, "success": row.input % every != every - 1, "error_message": "no"} for row in chunk.rows
        ])  # fmt: skip

    played = Played(rows, server, chunk_size=20, max_errors=max_errors).run()
    assert (played.scheduler.stopped == "max_errors") is stopped
    assert (len(played.sent) < rows / 20) is stopped or every == 999


def test_stopping_finishes_what_is_under_way_and_cancels_the_rest() -> None:
    """Nothing new is sent; what was pulled ends as cancelled, in the order of the rows."""
    scheduler = Scheduler(BatchOptions(chunk_size=2, max_in_flight=1))
    scheduler.offer([Row(str(number), number) for number in range(5)])
    step = scheduler.next(0.0)
    assert isinstance(step, Send)
    scheduler.stop("interrupted")
    assert scheduler.next(0.0) == Wait(None)
    scheduler.answered(step.chunk, _ok(step.chunk), 0.0)
    assert scheduler.next(0.0) == Done()
    scheduler.cancel_rest()
    assert [(outcome.key, outcome.status) for outcome in scheduler.take()] == [
        ("0", "ok"), ("1", "ok"), ("2", "cancelled"), ("3", "cancelled"), ("4", "cancelled"),
    ]  # fmt: skip


@pytest.mark.parametrize("given", ["x", "-1", "120%", "5.5", "%"])
def test_max_errors_that_is_neither_count_nor_share_is_refused(given: str) -> None:
    """With both ways to write it."""
    with pytest.raises(ConfigurationError, match=r"a count \(20\) or a share \(5%\)"):
        BatchOptions(max_errors=given)


def test_one_row_goes_alone_until_it_is_answered() -> None:
    """The client sends nothing of several rows while the task has no program; a fault before that changes nothing."""
    has_program = False
    faults = [ConnectionException("down"), RateLimitException("slow down", retry_after=60.0)]
    alone: list[int] = []

    def server(chunk: Chunk) -> Any:
        nonlocal has_program
        if has_program:
            return _ok(chunk)
        if len(chunk) > 1:
            return AloneFirst()
        alone.append(played.scheduler.in_flight)
        if faults:
            return faults.pop(0)
        has_program = True
        return _ok(chunk)

    played = Played(250, server, chunk_size=100, max_in_flight=3)
    played.run()
    assert played.statuses() == {"ok": 250}
    assert alone == [1, 1, 1], "nothing else is in flight"
    assert {outcome.attempts for outcome in played.outcomes} == {1, 2}
    assert sum(outcome.attempts > 1 for outcome in played.outcomes) == 1
    sent = [len(keys) for keys in played.sent]
    assert sent[:3] == [100, 100, 50]  # unsent: the client looks up whether there is a program
    assert sent[3:6] == [1, 1, 1]
    assert max(sent[6:]) > 90


def test_rows_that_cannot_be_sent_alone_do_not_hold_the_run_up() -> None:
    """The next row goes alone then; where none is left, the run ends."""

    def server(chunk: Chunk) -> Any:
        return AloneFirst() if len(chunk) > 1 else Unsendable({0: "no JSON"})

    played = Played(5, server, chunk_size=2, max_in_flight=2).run()
    assert played.statuses() == {"error": 5}
