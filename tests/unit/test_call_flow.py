"""How one call goes: attempts, pauses, deadline and what may be repeated, on a clock that the test moves."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any, Callable, Optional

import pytest

from loopai import models
from loopai._core import operations
from loopai._core.flow import Policy, Sleep, call
from loopai._core.operations import Operation
from loopai._core.wire import Headers, NoReply, Reply, Request
from loopai.exceptions import (
    ConnectionException,
    ExecutionException,
    LoopaiException,
    NotFoundException,
    NotSupportedException,
    RateLimitException,
    ServerException,
    TimeoutException,
    ValidationException,
)

Play = Callable[..., Any]
TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"
NOW = 1_700_000_000.0

GET = operations.get_task(TASK)
HEALTH = operations.get_health()
EXECUTE = operations.execute(TASK, {"text": "x"}, None, None, False, True)
CREATE = operations.create_task("n", "d", {}, {}, None, None, None, None)
DELETE = operations.unsubscribe_webhook(TASK)
NEVER = [
    CREATE,
    operations.subscribe_webhook("http://x", ["canaryRollback"], None, None, None, None),
    operations.improve_program(TASK),
    operations.start_canary(TASK, TASK),
    operations.progress_canary(TASK),
    operations.rollback_canary(TASK, "r"),
    operations.push_program(TASK, "code", "python", True),
]
PURE = [
    EXECUTE,
    operations.batch_execute(operations.batch_of(TASK, [1], 10)),
    operations.execute_group(TASK, [b"1", b"2"], None, None, False),
]
ALWAYS = [GET, HEALTH, DELETE, operations.list_webhooks(), operations.get_canary(TASK)]

LOST = NoReply(ConnectionResetError("reset"), arrived=True)
REFUSED = NoReply(ConnectionRefusedError("refused"), arrived=False)
LATE = NoReply(TimeoutError("late"), arrived=True, timed_out=True)


def reply(status: int, body: Any = None, **headers: str) -> Reply:
    content = b"" if body is None else json.dumps(body).encode()
    return Reply(status, {name.replace("_", "-"): text for name, text in headers.items()}, content)


def named(operation: Operation[Any]) -> str:
    return operation.name


@pytest.fixture
def done(example: Callable[[str], bytes]) -> Reply:
    return Reply(200, {"content-type": "application/json"}, example("execute.response.success"))


@pytest.fixture
def task(example: Callable[[str], bytes]) -> Reply:
    return Reply(200, {}, example("tasks.get.response"))


class TestPauses:
    """What is repeated, how often, and how long after."""

    @pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
    def test_passing_statuses_are_repeated(self, play: Play, done: Reply, status: int) -> None:
        """Each pause doubles from 0.5 s; the fourth attempt may succeed."""
        call = play(EXECUTE, [reply(status), reply(status), reply(status), done])
        assert call.pauses == [0.5, 1.0, 2.0]
        assert len(call.requests) == 4
        assert call.result.output == {"label": "spam"}

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 415, 422, 418, 500, 501, 301, 304, 199])
    def test_other_statuses_are_not(self, play: Play, status: int) -> None:
        """One request, and its error."""
        call = play(EXECUTE, [reply(status)])
        assert len(call.requests) == 1
        assert isinstance(call.error, LoopaiException)
        assert call.error.status_code == status

    @pytest.mark.parametrize(("random", "first"), [(0.0, 0.5), (0.5, 0.375), (0.999999, 0.25)])
    def test_pauses_are_jittered_down_to_their_half(self, play: Play, done: Reply, random: float, first: float) -> None:
        """Clients that failed together do not come back together."""
        call = play(EXECUTE, [reply(503), reply(503), done], random=lambda: random)
        assert call.pauses == pytest.approx([first, 2 * first], abs=1e-5)

    def test_a_program_that_is_being_made_is_waited_for(self, play: Play, done: Reply) -> None:
        """The server waits, and asks to come again: that counts as no retry, for five minutes."""
        again = reply(503, {"code": "GENERATING", "message": "still being made"}, retry_after="1")
        call = play(EXECUTE, [*[again] * 20, reply(502), done])
        assert call.result.output == {"label": "spam"}
        assert len(call.requests) == 22
        late = reply(503, {"code": "GENERATING", "message": "still being made"}, retry_after="10")
        call = play(EXECUTE, [late])
        assert isinstance(call.error, ServerException)
        assert call.error.message == "still being made"
        assert sum(call.pauses) == 330
        assert len(play(EXECUTE, [again], max_retries=0).requests) == 1
        assert len(play(EXECUTE, [again], deadline=10).requests) == 10

    def test_pauses_end_growing_at_eight_seconds(self, play: Play) -> None:
        """Eleven attempts take about a minute, not a quarter of an hour."""
        call = play(EXECUTE, [reply(503)], max_retries=10)
        assert call.pauses == [0.5, 1, 2, 4, 8, 8, 8, 8, 8, 8]
        assert isinstance(call.error, ServerException)

    @pytest.mark.parametrize(("max_retries", "requests"), [(0, 1), (1, 2), (3, 4)])
    def test_max_retries_counts_repetitions(self, play: Play, max_retries: int, requests: int) -> None:
        """`max_retries=0` is one attempt."""
        call = play(GET, [reply(502)], max_retries=max_retries)
        assert len(call.requests) == requests
        assert isinstance(call.error, ServerException)

    def test_max_retries_none_is_without_limit(self, play: Play, task: Reply) -> None:
        """A hundred failures are followed by a hundred and first attempt."""
        call = play(GET, [*[REFUSED] * 100, task], max_retries=None)
        assert call.result.name == "spam-filter"
        assert call.result.reply.attempts == 101

    def test_no_waiting_when_waits_are_off(self, play: Play, done: Reply) -> None:
        """Tests of users repeat as in production, at once."""
        call = play(EXECUTE, [reply(503, retry_after="7"), LOST, done], retry_waits=False)
        assert call.pauses == []
        assert len(call.requests) == 3
        assert call.result.reply.paused == 0

    def test_a_repetition_is_logged_without_words_of_the_server(
        self, play: Play, done: Reply, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The record names operation, attempt, error class and pause."""
        caplog.set_level("DEBUG", "loopai")
        play(EXECUTE, [reply(503, {"message": "not for logs"}), done], max_retries=2)
        play(EXECUTE, [REFUSED, done], max_retries=None)
        assert [record.getMessage() for record in caplog.records] == [
            "execute: attempt 1 of 3 failed (ServerException); next in 0.50 s",
            "execute: attempt 1 of unlimited failed (ConnectionException); next in 0.50 s",
        ]


class TestRetryAfter:
    """The server says when to come back."""

    @pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
    def test_seconds(self, play: Play, done: Reply, status: int) -> None:
        """A number of seconds is the pause."""
        assert play(EXECUTE, [reply(status, retry_after="7"), done]).pauses == [7.0]

    def test_fractions_of_seconds(self, play: Play, done: Reply) -> None:
        """Some proxies write fractions."""
        assert play(EXECUTE, [reply(429, retry_after=" 2.5 "), done]).pauses == [2.5]

    def test_date(self, play: Play, done: Reply) -> None:
        """A date is the pause until then."""
        moment = format_datetime(datetime.fromtimestamp(NOW + 9, timezone.utc), usegmt=True)
        assert play(EXECUTE, [reply(429, retry_after=moment), done]).pauses == [9.0]

    def test_date_without_zone_is_utc(self, play: Play, done: Reply) -> None:
        """`-0000` says that the zone is unknown, and HTTP has but one."""
        moment = format_datetime(datetime.fromtimestamp(NOW + 9, timezone.utc).replace(tzinfo=None))
        assert moment.endswith("-0000")
        assert play(EXECUTE, [reply(429, retry_after=moment), done]).pauses == [9.0]

    @pytest.mark.parametrize("asked", ["0", "0.0", "Thu, 01 Jan 1970 00:00:00 GMT"])
    def test_now_is_not_a_storm(self, play: Play, done: Reply, asked: str) -> None:
        """A server that says "now" is asked again after the usual pause, not in a tight loop."""
        assert play(EXECUTE, [reply(429, retry_after=asked)], max_retries=2).pauses == [0.5, 1.0]

    @pytest.mark.parametrize(
        "garbage",
        ["", "soon", "-5", "1e3", "+1", "NaN", "1,5", "Mon, 99 Foo 2025 99:99:99 GMT", "9" * 400, "²"],
    )
    def test_garbage_is_as_good_as_nothing(self, play: Play, done: Reply, garbage: str) -> None:
        """What is neither number nor date leaves the usual pause."""
        assert play(EXECUTE, [reply(429, retry_after=garbage), done]).pauses == [0.5]

    def test_huge_without_deadline_raises_at_once(self, play: Play) -> None:
        """Nobody waits for days in one call: the caller is told."""
        call = play(EXECUTE, [reply(429, retry_after="86400")])
        assert isinstance(call.error, RateLimitException)
        assert call.error.retry_after == 86400
        assert (call.pauses, len(call.requests)) == ([], 1)

    @pytest.mark.parametrize(("status", "kind"), [(429, RateLimitException), (503, ServerException)])
    def test_beyond_the_deadline_raises_at_once(self, play: Play, status: int, kind: type[Exception]) -> None:
        """The answer would come too late: no pause, and the error carries what the server asked for."""
        call = play(EXECUTE, [reply(status, retry_after="11")], deadline=10)
        assert type(call.error) is kind
        assert call.error.retry_after == 11
        assert (call.pauses, call.elapsed) == ([], 0)

    def test_within_the_deadline_is_obeyed(self, play: Play, done: Reply) -> None:
        """Nine of ten seconds are waited."""
        call = play(EXECUTE, [reply(429, retry_after="9"), done], deadline=10)
        assert call.pauses == [9.0]
        assert call.requests[1].timeout == pytest.approx(1.0)

    def test_what_earlier_attempts_took_counts(self, play: Play) -> None:
        """Five seconds are too long where four are left."""
        call = play(EXECUTE, [(6.0, reply(429, retry_after="5"))], deadline=10)
        assert isinstance(call.error, RateLimitException)
        assert call.elapsed == 6

    def test_the_limiters_reset_is_as_good(self, play: Play, done: Reply) -> None:
        """With nothing remaining, `X-Rate-Limit-Reset` says when; seven digits and all."""
        moment = (datetime.fromtimestamp(NOW, timezone.utc) + timedelta(seconds=20)).strftime("%Y-%m-%dT%H:%M:%S")
        headers = {"x_rate_limit_remaining": "0", "x_rate_limit_reset": moment + ".0000000Z"}
        assert play(EXECUTE, [reply(429, **headers), done]).pauses == [20.0]

    @pytest.mark.parametrize(
        ("remaining", "reset"), [("1", "2030-01-01T00:00:00Z"), ("0", "soon"), ("0", "2030-13-01T00:00:00Z"), ("0", "")]
    )
    def test_a_reset_that_says_nothing(self, play: Play, done: Reply, remaining: str, reset: str) -> None:
        """Requests are left, or the moment is none: the usual pause."""
        headers = {"x_rate_limit_remaining": remaining, "x_rate_limit_reset": reset}
        assert play(EXECUTE, [reply(429, **headers), done]).pauses == [0.5]


class TestTheLimitersInternalError:
    """The real server's limiter answers 500 INTERNAL_ERROR instead of 429."""

    BODY = {"code": "INTERNAL_ERROR", "message": "An unexpected error occurred"}

    @pytest.mark.parametrize(
        "operation",
        [
            CREATE,
            GET,
            EXECUTE,
            *PURE[1:],
            operations.list_artifacts(TASK),
            operations.get_artifact(TASK, 1),
            operations.batch_validate(TASK, []),
        ],
        ids=named,
    )
    def test_on_task_execute_and_batch_paths_it_is_rationing(self, play: Play, operation: Operation[Any]) -> None:
        """It may be repeated, a create too, and ends as `RateLimitException`."""
        call = play(operation, [reply(500, self.BODY)])
        assert len(call.requests) == 4
        assert isinstance(call.error, RateLimitException)
        assert (call.error.status_code, call.error.code, call.error.retry_after) == (500, "INTERNAL_ERROR", None)

    @pytest.mark.parametrize("operation", [HEALTH, DELETE, NEVER[1], NEVER[2], operations.get_canary(TASK)], ids=named)
    def test_elsewhere_it_is_a_failure(self, play: Play, operation: Operation[Any]) -> None:
        """There it says what it means."""
        call = play(operation, [reply(500, self.BODY)])
        assert len(call.requests) == 1
        assert type(call.error) is ServerException

    def test_of_a_request_too_large_it_means_that(self, play: Play) -> None:
        """Above 30 MB the server fails the same way, and would every time."""
        large = operations.execute(TASK, "x" * 30_000_000, None, None, False, True)
        call = play(large, [reply(500, self.BODY)])
        assert len(call.requests) == 1
        assert isinstance(call.error, ValidationException)
        assert "the server reads 30,000,000: send fewer items" in str(call.error)


class TestWhatMayBeRepeated:
    """After no reply, the question is whether the request may have arrived."""

    @pytest.mark.parametrize("operation", [*ALWAYS, *PURE, *NEVER], ids=named)
    @pytest.mark.parametrize("retry_unknown", [True, False])
    def test_not_arrived_is_always_repeated(self, play: Play, operation: Operation[Any], retry_unknown: bool) -> None:
        """What nobody received may be sent again, whatever it is."""
        call = play(operation, [REFUSED], retry_unknown=retry_unknown)
        assert len(call.requests) == 4
        assert type(call.error) is ConnectionException

    @pytest.mark.parametrize("lost", [LOST, LATE])
    @pytest.mark.parametrize("operation", ALWAYS, ids=named)
    @pytest.mark.parametrize("retry_unknown", [True, False])
    def test_reads_and_deletes_are_repeated(
        self, play: Play, operation: Operation[Any], retry_unknown: bool, lost: NoReply
    ) -> None:
        """They do no harm twice."""
        assert len(play(operation, [lost], retry_unknown=retry_unknown).requests) == 4

    @pytest.mark.parametrize("lost", [LOST, LATE])
    @pytest.mark.parametrize("operation", PURE, ids=named)
    @pytest.mark.parametrize(("retry_unknown", "requests"), [(True, 4), (False, 1)])
    def test_executions_unless_held_back(
        self, play: Play, operation: Operation[Any], retry_unknown: bool, requests: int, lost: NoReply
    ) -> None:
        """Programs are pure; `retry_unknown=False` is for whoever counts executions."""
        assert len(play(operation, [lost], retry_unknown=retry_unknown).requests) == requests

    @pytest.mark.parametrize("answer", [LOST, LATE, reply(502), reply(503), reply(504)])
    @pytest.mark.parametrize("operation", NEVER, ids=named)
    def test_what_makes_something_is_not(self, play: Play, operation: Operation[Any], answer: Any) -> None:
        """It may have been made already."""
        assert len(play(operation, [answer]).requests) == 1

    @pytest.mark.parametrize("answer", [reply(408), reply(429), reply(503, retry_after="1")])
    @pytest.mark.parametrize("operation", [NEVER[0], NEVER[1], PURE[0]], ids=named)
    def test_what_was_refused_unread_is_repeated(self, play: Play, operation: Operation[Any], answer: Any) -> None:
        """The server says that it did nothing."""
        assert len(play(operation, [answer], retry_unknown=False).requests) == 4

    @pytest.mark.parametrize("answer", [reply(502), reply(503), reply(504)])
    def test_gateway_errors_leave_it_unknown(self, play: Play, answer: Any) -> None:
        """A gateway that failed may have passed the request on."""
        assert len(play(EXECUTE, [answer], retry_unknown=False).requests) == 1


class TestIdempotencyKey:
    """One key a logical call."""

    def test_the_same_on_every_attempt_and_fresh_for_every_call(self, play: Play) -> None:
        """Also across redirects; two calls never share one."""
        answers = [reply(503), reply(307, location="/x"), LOST, REFUSED]
        keys = [{request.headers["idempotency-key"] for request in play(EXECUTE, answers).requests} for _ in range(50)]
        assert all(len(of_a_call) == 1 for of_a_call in keys)
        assert len(set.union(*keys)) == 50
        assert all(len(key) >= 32 for key in set.union(*keys))

    @pytest.mark.parametrize("operation", [*PURE, *NEVER], ids=named)
    def test_every_post_has_one(self, play: Play, operation: Operation[Any]) -> None:
        """A create as well as an execution."""
        assert "idempotency-key" in play(operation, [REFUSED], max_retries=0).requests[0].headers

    @pytest.mark.parametrize("operation", ALWAYS, ids=named)
    def test_nothing_else_has(self, play: Play, operation: Operation[Any]) -> None:
        """Reads and deletes need none, and have no body to describe."""
        headers = play(operation, [REFUSED], max_retries=0).requests[0].headers
        assert "idempotency-key" not in headers
        assert "content-type" not in headers


class TestTime:
    """`timeout` bounds an attempt, `deadline` the call."""

    def test_timeout_goes_with_each_request(self, play: Play, done: Reply) -> None:
        """Every attempt has the whole of it; the wait for a connection is not bounded."""
        call = play(EXECUTE, [(29.0, reply(503)), (29.0, LOST), done], timeout=30.0)
        assert [request.timeout for request in call.requests] == [30.0] * 3
        assert [request.queue_timeout for request in call.requests] == [None] * 3

    def test_no_bounds_at_all(self, play: Play, done: Reply) -> None:
        """`None` is without bound."""
        assert play(EXECUTE, [done], timeout=None).requests[0].timeout is None

    def test_deadline_shortens_the_last_attempts(self, play: Play, done: Reply) -> None:
        """What attempts and pauses took is taken off, for the queue too."""
        call = play(EXECUTE, [(4.0, reply(503)), (2.0, reply(503)), done], timeout=6.0, deadline=10.0)
        assert [request.timeout for request in call.requests] == [6.0, 5.5, 2.5]
        assert [request.queue_timeout for request in call.requests] == [10.0, 5.5, 2.5]

    def test_deadline_without_timeout(self, play: Play, done: Reply) -> None:
        """The deadline alone bounds the attempt then."""
        assert play(EXECUTE, [done], timeout=None, deadline=4.0).requests[0].timeout == 4.0

    def test_deadline_counts_from_the_moment_the_call_is_made(self) -> None:
        """A call that waits before its first step has that much less."""
        now = [0.0]
        flow = call(GET, Policy("http://x", Headers(), deadline=5.0, clock=lambda: now[0]))
        now[0] = 3.0
        step = next(flow)
        assert isinstance(step, Request)
        assert step.timeout == 2.0

    def test_a_call_begun_too_late_sends_nothing(self) -> None:
        """The error says that nothing was sent."""
        now = [0.0]
        flow = call(GET, Policy("http://x", Headers(), deadline=5.0, clock=lambda: now[0]))
        now[0] = 5.0
        with pytest.raises(
            TimeoutException, match=r"get_task: not done within the deadline of 5 s: 0 attempts in 5\.00 s"
        ):
            next(flow)

    def test_an_attempt_that_times_out_is_repeated_and_told(self, play: Play) -> None:
        """The message says which bound, and where the time went."""
        call = play(EXECUTE, [(30.0, LATE)], timeout=30.0, max_retries=1)
        assert isinstance(call.error, TimeoutException)
        assert call.error.message == (
            "execute: no reply within the timeout of 30 s: 2 attempts in 60.50 s, of which 0.00 s waiting for a "
            "connection, 60.00 s for replies, 0.50 s between attempts"
        )
        assert isinstance(call.error.original_exception, TimeoutError)
        assert call.error.request == f"POST http://loopai.test/api/v1/tasks/{TASK}/execute"

    def test_the_deadline_ends_an_attempt_and_the_call(self, play: Play) -> None:
        """No attempt follows, even where the timer rang a moment early; queue time is told apart."""
        queued = NoReply(TimeoutError(), arrived=False, timed_out=True, queued=4.0)
        call = play(EXECUTE, [(1.0, reply(503)), (8.499, queued)], timeout=30.0, deadline=10.0)
        assert isinstance(call.error, TimeoutException)
        assert call.error.message == (
            "execute: no reply within the deadline of 10 s: 2 attempts in 10.00 s, of which 4.00 s waiting for a "
            "connection, 5.50 s for replies, 0.50 s between attempts"
        )
        assert len(call.requests) == 2

    def test_no_room_for_another_pause(self, play: Play) -> None:
        """The error is about the deadline, and holds what the last attempt met."""
        call = play(EXECUTE, [(9.8, reply(503, {"message": "busy"}))], deadline=10.0)
        assert isinstance(call.error, TimeoutException)
        assert "not done within the deadline of 10 s: 1 attempt in 9.80 s" in call.error.message
        assert call.error.message.endswith("; the last attempt: busy")
        assert call.error.status_code == 503
        assert isinstance(call.error.original_exception, ServerException)
        assert call.error.__cause__ is call.error.original_exception

    def test_the_time_ends_in_a_pause_that_took_longer(self) -> None:
        """A driver that oversleeps finds the deadline over."""
        now = [0.0]
        flow = call(GET, Policy("http://x", Headers(), deadline=5.0, clock=lambda: now[0], random=lambda: 0.0))
        next(flow)
        assert flow.send(reply(503)) == Sleep(0.5)
        now[0] = 6.0
        with pytest.raises(TimeoutException, match=r"1 attempt in 6.00 s.* 6.00 s between attempts"):
            flow.send(None)

    def test_no_timeout_and_none_of_ours(self, play: Play) -> None:
        """A transport may have bounds of its own."""
        call = play(EXECUTE, [LATE], timeout=None, max_retries=0)
        assert "no reply within the time the transport allows" in call.error.message

    @pytest.mark.parametrize(
        ("items", "concurrency", "timeout_ms", "seconds"),
        [
            (1, 10, None, 5.0),
            (10, 10, None, 5.0),
            (11, 10, None, 10.0),
            (100, 1, 200, 20.0),
            (0, 10, None, 0.0),
            (3, 2, 0, 0.0),
            (3, 2, -1, 0.0),
        ],
    )
    def test_a_batch_has_time_for_its_programs(
        self, play: Play, items: int, concurrency: int, timeout_ms: Optional[int], seconds: float
    ) -> None:
        """`ceil(n / max_concurrency)` programs one after another, each with its own bound."""
        request = models.BatchExecuteRequest(
            task_id=TASK,
            items=[models.BatchExecuteItem(id=str(n), input=n) for n in range(items)],
            max_concurrency=concurrency,
            timeout_ms=timeout_ms,
        )
        batch = operations.batch_execute(request)
        assert play(batch, [LATE], timeout=30.0, max_retries=0).requests[0].timeout == 30.0 + seconds
        assert play(batch, [LATE], timeout=None, max_retries=0).requests[0].timeout is None
        assert play(batch, [LATE], timeout=30.0, deadline=31.0, max_retries=0).requests[0].timeout == min(
            31.0, 30.0 + seconds
        )

    def test_the_message_counts_the_extra_time(self, play: Play) -> None:
        """A batch of eleven has ten seconds more, and says so."""
        batch = operations.batch_execute(operations.batch_of(TASK, range(11), 10))
        assert "the timeout of 40 s" in play(batch, [LATE], timeout=30.0, max_retries=0).error.message


class TestRedirects:
    """307 and 308 are followed on the same origin only."""

    @pytest.mark.parametrize("status", [307, 308])
    @pytest.mark.parametrize(
        ("location", "url"),
        [
            ("/elsewhere?x=1", "http://loopai.test/elsewhere?x=1"),
            ("http://loopai.test:80/there", "http://loopai.test:80/there"),
            ("HTTP://LOOPAI.TEST/there", "HTTP://LOOPAI.TEST/there"),
            ("//loopai.test/there", "http://loopai.test/there"),
        ],
    )
    def test_followed_with_method_and_body(self, play: Play, done: Reply, status: int, location: str, url: str) -> None:
        """The same request goes to the new place, as part of the same attempt."""
        call = play(EXECUTE, [reply(status, location=location), done])
        first, second = call.requests
        assert second.url.lower() == url.lower()
        assert (second.method, second.content, second.headers) == (first.method, first.content, first.headers)
        assert call.pauses == []
        assert call.result.reply.attempts == 1

    @pytest.mark.parametrize(
        "location",
        [
            "https://loopai.test/x",
            "http://loopai.test:8080/x",
            "http://evil.test/x",
            "//evil.test",
            "http://[",
            "http://loopai.test:x/",
            "",
        ],
    )
    def test_not_to_another_origin_or_nowhere(self, play: Play, location: str) -> None:
        """The key would go with it: the error says where the server wants us."""
        call = play(EXECUTE, [reply(307, location=location)])
        assert len(call.requests) == 1
        assert type(call.error) is ServerException
        assert f"redirects to {location}: set base_url to where it is" in call.error.message
        assert call.error.status_code == 307

    def test_without_a_location(self, play: Play) -> None:
        """A redirect to nowhere is an error too."""
        assert "redirects to nowhere" in play(EXECUTE, [reply(308)]).error.message

    @pytest.mark.parametrize("status", [301, 302, 303])
    def test_others_would_lose_the_body(self, play: Play, status: int) -> None:
        """Those that turn a POST into a GET are not followed."""
        call = play(EXECUTE, [reply(status, location="/x")])
        assert (len(call.requests), call.error.status_code) == (1, status)

    def test_bounded(self, play: Play) -> None:
        """A loop ends."""
        call = play(EXECUTE, [reply(307, location="/x")])
        assert len(call.requests) == 6
        assert type(call.error) is ServerException

    def test_they_share_the_attempts_timeout(self, play: Play, done: Reply) -> None:
        """Three hops of three seconds leave one of ten; waiting for a connection is not counted."""
        hop = Reply(307, {"location": "/x"}, b"", queued=1.0)
        call = play(EXECUTE, [(4.0, hop), (4.0, hop), (4.0, hop), (4.0, hop), done], timeout=10.0)
        assert [request.timeout for request in call.requests] == [10.0, 7.0, 4.0, 1.0, 0.001]

    def test_they_end_with_the_deadline(self, play: Play) -> None:
        """No hop begins after it."""
        call = play(EXECUTE, [(2.0, reply(307, location="/x"))], deadline=3.0, timeout=None)
        assert isinstance(call.error, TimeoutException)
        assert len(call.requests) == 2


class TestResults:
    """What a call gives, and what came with it."""

    def test_how_it_was_answered(self, play: Play, example: Callable[[str], bytes]) -> None:
        """Status, headers and times of the last reply; queue and pauses apart."""
        last = Reply(201, {"x-served-by": "a"}, example("tasks.create.response"), queued=0.25)
        call = play(CREATE, [(1.0, reply(429, retry_after="3")), (2.0, last)])
        info = call.result.reply
        assert (info.status_code, info.headers, info.attempts) == (201, {"x-served-by": "a"}, 2)
        assert (info.elapsed, info.queued, info.paused) == (6.0, 0.25, 3.0)
        assert "x-served-by" not in repr(info)

    def test_of_lists_and_texts_too(self, play: Play, example: Callable[[str], bytes]) -> None:
        """A list and a text carry it as well; `None` cannot."""
        artifacts = play(operations.list_artifacts(TASK), [Reply(200, {}, example("tasks.artifacts.list.response"))])
        assert [artifact.version for artifact in artifacts.result] == [1, 2]
        assert artifacts.result.reply.status_code == 200
        metrics = play(operations.get_metrics(), [Reply(200, {}, b"loopai_up 1\n")])
        assert (metrics.result, metrics.result.reply.status_code) == ("loopai_up 1\n", 200)
        assert play(operations.get_canary(TASK), [Reply(204, {}, b"")]).result is None
        assert play(DELETE, [Reply(204, {}, b"")]).error is None

    @pytest.mark.parametrize("status", [200, 201, 202, 203, 226])
    def test_any_success_will_do(self, play: Play, example: Callable[[str], bytes], status: int) -> None:
        """The earlier server answers a create with 200."""
        assert play(CREATE, [Reply(status, {}, example("tasks.create.response"))]).result.name == "spam-filter"

    def test_a_program_that_failed_raises(self, play: Play, example: Callable[[str], bytes]) -> None:
        """The result is on the exception, with its own id, status and request."""
        call = play(EXECUTE, [Reply(200, {}, example("execute.response.program_error"))])
        error = call.error
        assert isinstance(error, ExecutionException)
        assert (error.execution_id, error.status_code) == (str(error.result.execution_id), 200)
        assert error.message == error.result.error_message
        assert error.request is not None
        assert error.result.reply.attempts == 1

    def test_or_is_the_result(self, play: Play, example: Callable[[str], bytes]) -> None:
        """`raise_on_error=False` gives it back."""
        quiet = operations.execute(TASK, 1, None, None, False, False)
        call = play(quiet, [Reply(200, {}, example("execute.response.timeout"))])
        assert (call.result.status, call.result.succeeded) == ("error", False)

    def test_a_failure_without_words_or_id(self, play: Play) -> None:
        """The status stands in for the message."""
        body = {"task_id": TASK, "status": "timeout"}
        error = play(EXECUTE, [reply(200, body)]).error
        assert error.message == "the program ended with status 'timeout'"
        assert error.execution_id is None
        assert operations.failed_program(models.ExecutionResult.model_validate(body)).status_code is None  # type: ignore[union-attr]  # it failed

    @pytest.mark.parametrize(
        ("operation", "name"),
        [
            (operations.get_detailed_health(), "health.detailed.response.degraded"),
            (operations.get_ready(), "health.ready.response.not_ready"),
            (operations.get_ready(), "health.ready.response.exception"),
        ],
    )
    def test_degraded_is_a_result(
        self, play: Play, example: Callable[[str], bytes], operation: Operation[Any], name: str
    ) -> None:
        """The server's own 503 is not repeated."""
        call = play(operation, [Reply(503, {}, example(name))])
        assert len(call.requests) == 1
        assert call.result.reply.status_code == 503

    def test_a_proxys_503_is_not(self, play: Play, example: Callable[[str], bytes]) -> None:
        """That one is repeated, and its Retry-After obeyed."""
        proxy = Reply(503, {"retry-after": "2"}, b"<html>down</html>")
        call = play(operations.get_ready(), [proxy, Reply(200, {}, example("health.ready.response"))])
        assert call.pauses == [2.0]
        assert call.result.ready
        assert type(play(operations.get_ready(), [proxy], max_retries=0).error) is ServerException


class TestAdditions:
    """What only the embedded server has."""

    ADDED = [
        operations.list_tasks(),
        operations.get_task_by_name("spam"),
        operations.push_program(TASK, "code", "python", True),
    ]

    @pytest.mark.parametrize("operation", ADDED, ids=named)
    @pytest.mark.parametrize(
        "answer",
        [
            reply(404),
            reply(405),
            Reply(404, {}, b"<html>nginx</html>"),
            reply(400, {"title": "Bad", "status": 400, "errors": {"taskId": ["The value 'by-name' is not valid."]}}),
        ],
    )
    def test_elsewhere_names_server_and_operation(self, play: Play, operation: Operation[Any], answer: Any) -> None:
        """However the other server says that it knows no such path."""
        call = play(operation, [answer])
        assert isinstance(call.error, NotSupportedException)
        assert call.error.message == f"http://loopai.test has no {operation.name}: only the embedded server adds it"
        assert call.error.status_code == answer.status

    @pytest.mark.parametrize("operation", ADDED, ids=named)
    def test_an_unknown_task_is_another_matter(self, play: Play, operation: Operation[Any]) -> None:
        """The embedded server's own 404 says what it could not find."""
        call = play(operation, [reply(404, {"code": "TASK_NOT_FOUND", "message": "Task with name 'x' not found"})])
        assert type(call.error) is NotFoundException

    def test_of_the_contract_404_stays_404(self, play: Play) -> None:
        """Only additions may be missing."""
        assert type(play(GET, [reply(404)]).error) is NotFoundException

    @pytest.mark.parametrize(("name", "path"), [("..", "%2E%2E"), ("a/b", "a%2Fb"), ("v1.2", "v1.2"), ("é", "%C3%A9")])
    def test_names_stay_one_part_of_the_path(self, play: Play, name: str, path: str) -> None:
        """No name leads anywhere else."""
        assert operations.get_task_by_name(name).path == f"/api/v1/tasks/by-name/{path}"

    def test_a_name_is_needed(self) -> None:
        """The empty one would be a path that no server has."""
        with pytest.raises(ValidationException) as raised:
            operations.get_task_by_name("")
        assert raised.value.errors == {"name": ["is needed"]}


class TestDrivers:
    """What a driver may do to a call."""

    @pytest.mark.parametrize("steps", [0, 1, 2, 3])
    def test_may_end_it_at_any_step(self, steps: int) -> None:
        """A cancelled call is closed without a word, before, between and within its attempts and pauses."""
        flow = call(EXECUTE, Policy("http://x", Headers()))
        answer: Any = None
        for _ in range(steps):
            step = flow.send(answer)
            answer = reply(503) if isinstance(step, Request) else None
        flow.close()
        with pytest.raises(StopIteration):
            next(flow)

    def test_must_answer_a_request(self) -> None:
        """A driver that does not is broken, and told so."""
        flow = call(GET, Policy("http://x", Headers()))
        next(flow)
        with pytest.raises(RuntimeError, match="no answer"):
            flow.send(None)

    def test_gets_a_cause_it_can_show(self, play: Play) -> None:
        """The transport's exception is the cause, named in the message, without its frames."""
        try:
            try:
                raise OSError("inner")
            except OSError as inner:
                raise ConnectionResetError("reset by peer") from inner
        except ConnectionResetError as error:
            cause = error
        call = play(GET, [NoReply(cause, arrived=True)], max_retries=0)
        assert call.error.original_exception is cause
        assert call.error.__cause__ is cause
        assert call.error.message == "no reply from http://loopai.test (ConnectionResetError: reset by peer)"
        assert cause.__traceback__ is None
        assert cause.__cause__ is not None
        assert cause.__cause__.__traceback__ is None
        assert "(KeyError)" in play(GET, [NoReply(KeyError(), arrived=True)], max_retries=0).error.message
