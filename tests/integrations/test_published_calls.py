"""Calls against a stand-in for the published server: batches of one request, and calls that travel together."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable
from typing import Any, Callable, Optional

import pytest

from loopai import (
    AuthenticationException,
    CallInfo,
    ConnectionException,
    ExecutionException,
    Hooks,
    LoopaiClient,
    LoopaiException,
    NotFoundException,
    ServerException,
    SyncLoopaiClient,
    TimeoutException,
)
from loopai._core.wire import Answer, NoReply, Reply, Request

from .standin import TASK, URL, StandIn

Made = Callable[..., Any]


class Both:
    """One face for both clients: every method blocks."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(
        self, server: StandIn, name: str, *args: Any, client: Optional[dict[str, Any]] = None, **more: Any
    ) -> Any:
        options = {"transport": server, "retry_waits": False, **(client or {})}
        if self.kind == "sync":
            with SyncLoopaiClient(URL, **options) as made:
                return getattr(made, name)(*args, **more)

        async def run() -> Any:
            async with LoopaiClient(URL, **options) as made:
                return await getattr(made, name)(*args, **more)

        return asyncio.run(run())


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Both:
    return Both(request.param)


def keys(server: StandIn) -> list[str]:
    return [request.headers["idempotency-key"] for request in server.posts]


def test_a_batch_is_one_reply_of_several(call: Both) -> None:
    """Every item ran; counts, average and times are those of the whole, ids and version those of the first."""
    server = StandIn()
    found = call(server, "batch_execute", TASK, [{"n": number} for number in range(60)])
    assert [item.output["of"]["n"] for item in found.results] == list(range(60))
    assert (found.total_items, found.success_count, found.failure_count) == (60, 60, 0)
    assert found.avg_latency_ms == pytest.approx(25)
    assert [body["max_concurrency"] for body in server.batches] == [10, 1]
    assert found.version == 0
    assert found.reply.attempts == 2
    assert found.completed_at > found.started_at
    assert found.total_duration_ms == pytest.approx((found.completed_at - found.started_at).total_seconds() * 1000)
    assert len(set(keys(server))) == 2
    assert max(server.sent_one_at_a_time.values()) == 1


def test_items_are_matched_by_place(call: Both) -> None:
    """Ids may repeat, and a caller's key gets a number for each further request."""
    server = StandIn()
    items = [{"id": "same", "input": {"n": number}} for number in range(20)]
    found = call(server, "batch_execute_advanced", task_id=TASK, items=items, idempotency_key="mine")
    assert [item.output["of"]["n"] for item in found.results] == list(range(20))
    assert keys(server) == ["mine", "mine:2"]


def test_nothing_goes_out_again_after_a_real_failure_that_stops(call: Both) -> None:
    """With `stop_on_first_error`, and a program that failed."""
    server = StandIn(fails=0.5)
    items = [{"id": str(number), "input": {"n": number, "error": "boom"}} for number in range(20)]
    found = call(server, "batch_execute_advanced", task_id=TASK, items=items, stop_on_first_error=True)
    assert len(server.posts) == 1
    assert {item.error_message == "boom" or "may have run" in item.error_message for item in found.results} == {True}
    assert found.failure_count == 20


@pytest.mark.parametrize("options", [{"retry_unknown": False}, {"max_retries": 0}])
def test_without_retries_an_item_is_sent_once(call: Both, options: dict[str, Any]) -> None:
    """And says that it may have run."""
    server = StandIn()
    found = call(server, "batch_execute", TASK, [{"n": number} for number in range(20)], client=options)
    assert len(server.posts) == 1
    failed = [item for item in found.results if not item.success]
    assert failed
    assert all("may have run" in item.error_message for item in failed)


def test_an_item_that_fails_alone_too_is_left(call: Both) -> None:
    """The others are right."""
    server = StandIn()
    given: list[dict[str, Any]] = [{"n": number} for number in range(20)]
    given[7]["poison"] = 1
    found = call(server, "batch_execute", TASK, given)
    assert [item.success for item in found.results] == [number != 7 for number in range(20)]
    assert "failed again" in found.results[7].error_message
    assert len(server.posts) <= 5


def test_a_server_that_can_run_nothing_is_left_after_the_retries(call: Both) -> None:
    """As many as a call has; nobody waits for ever."""
    server = StandIn()
    found = call(server, "batch_execute", TASK, [{"poison": number} for number in range(4)])
    assert found.failure_count == 4
    assert len(server.posts) <= 6


def test_one_deadline_holds_for_all_requests(call: Both) -> None:
    """Not one each: what the first request took is gone."""

    class Slow(StandIn):
        def _finish(self, request: Request, started: float) -> Answer:
            threading.Event().wait(0.15)
            return super()._finish(request, started)

    with pytest.raises(TimeoutException, match=r"deadline of 0\.1 s"):
        call(Slow(), "batch_execute", TASK, [{"n": number} for number in range(20)], client={"deadline": 0.1})


def test_concurrency_stays_at_one() -> None:
    """Whatever the next calls ask for; sizes follow latency."""
    server = StandIn(item_ms=1000, limit=None)
    with SyncLoopaiClient(URL, transport=server) as client:
        client.batch_execute(TASK, [{"n": number} for number in range(20)])
        server.batches.clear()
        found = client.with_options(timeout=5).batch_execute(TASK, [{"n": number} for number in range(12)], 50)
    assert found.success_count == 12
    assert [(body["max_concurrency"], len(body["items"])) for body in server.batches] == [(1, 5), (1, 5), (1, 2)]


async def test_coalesced_calls_each_get_their_own_result() -> None:
    """Sixty at once: those that the server failed to run are sent again, in one request."""
    server = StandIn(limit=None)
    async with LoopaiClient(URL, transport=server, coalesce=True) as client:
        calls: list[Awaitable[Any]] = [client.execute(TASK, {"n": number}) for number in range(60)]
        results = await asyncio.gather(*calls)
        assert [result.output["of"]["n"] for result in results] == list(range(60))
        assert [(body["max_concurrency"], len(body["items"]) > 1) for body in server.batches] == [(60, True), (1, True)]
        server.batches.clear()
        server.item_ms = 2000
        await asyncio.gather(*(client.execute(TASK, {"n": number}) for number in range(100)))
        sizes = [len(body["items"]) for body in server.batches]
        assert sizes == [100]  # 25 ms an item: 2.5 s
        server.batches.clear()
        await asyncio.gather(*(client.execute(TASK, {"n": number}) for number in range(9)))
        assert max(len(body["items"]) for body in server.batches) <= 5


def test_threads_that_travel_together_each_get_their_own_result() -> None:
    """The same for the synchronous client."""
    server = StandIn(limit=None)
    gate = threading.Barrier(20)
    outcomes: Counter[bool] = Counter()

    with SyncLoopaiClient(URL, transport=server, coalesce=True) as client:

        def one(number: int) -> None:
            gate.wait()
            result = client.execute(TASK, {"n": number})
            outcomes[result.output == {"of": {"n": number}}] += 1

        threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert outcomes == {True: 20}


async def test_a_coalesced_call_without_retries_says_that_it_may_have_run() -> None:
    """It is the caller's error, and nothing goes out again."""
    server = StandIn(limit=None, fails=1.0)
    async with LoopaiClient(URL, transport=server, coalesce=True, max_retries=0) as client:
        results = await asyncio.gather(*(client.execute(TASK, n) for n in range(5)), return_exceptions=True)
    assert len(server.posts) == 1
    assert all(isinstance(each, ExecutionException) and "may have run" in each.message for each in results)


UNKNOWN = "11111111-2222-4333-8444-555555555555"


def test_an_unknown_task_is_not_found(call: Both) -> None:
    """The server says no more than that the execution failed: the client looks, once a minute."""
    server = StandIn(limit=None)
    with pytest.raises(NotFoundException, match=UNKNOWN):
        call(server, "execute", UNKNOWN, 1)
    assert [request.method for request in server.requests] == ["GET", "POST", "GET"]
    assert server.look_ups == 1


def test_an_unknown_version_is_not_found(call: Both) -> None:
    """Named as what is missing."""
    server = StandIn(limit=None)
    with pytest.raises(NotFoundException, match="version 9"):
        call(server, "execute", TASK, 1, 9)


def test_where_all_is_there_the_original_error_stands(call: Both) -> None:
    """A program that cannot be made, with a task that is there; the look-up is remembered."""
    server = StandIn(limit=None, active=False, generates=False)
    server._generating[TASK] = 2
    with pytest.raises(ExecutionException):
        call(server, "execute", TASK, 1)


def test_an_answer_is_remembered_for_a_minute() -> None:
    """By a client and its copies; then it is looked up again."""
    server = StandIn(limit=None)
    with SyncLoopaiClient(URL, transport=server) as client:
        for _ in range(3):
            with pytest.raises(NotFoundException):
                client.with_options(timeout=5).execute(UNKNOWN, 1)
    assert [request.method for request in server.requests] == ["GET", "POST", "GET", "POST", "POST"]


async def test_coalesced_calls_of_an_unknown_task_are_not_found() -> None:
    """Their item says it."""
    server = StandIn(limit=None)
    async with LoopaiClient(URL, transport=server, coalesce=True) as client:
        results = await asyncio.gather(*(client.execute(UNKNOWN, n) for n in range(5)), return_exceptions=True)
    assert all(isinstance(each, NotFoundException) for each in results)


def test_the_active_version_comes_from_the_artifacts() -> None:
    """The task itself says what it said ten minutes ago: none."""
    pytest.importorskip("deno")
    server = StandIn(limit=None, active=False)
    with SyncLoopaiClient(URL, transport=server) as client:
        assert client.get_task(TASK).active_version is None
        server.artifacts[TASK] = [1]
        assert client.get_task(TASK).active_version is None
        program = client.load_program(TASK)
        assert program({"n": 3}).output == {"n": 3}
        server.artifacts[TASK] = [1, 2]
        assert program.refresh()
        assert program.version == 2


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        (Reply(429, {}, b'{"code": "RATE_LIMIT_EXCEEDED", "message": "too many"}'), "RATE_LIMIT_EXCEEDED", "too many"),
        (Reply(400, {}, b'{"code": "VALIDATION_ERROR", "message": "no"}'), "VALIDATION_ERROR", "no"),
        (Reply(200, {}, b"<html>"), None, "not what a Loopai server sends"),
        (NoReply(ConnectionRefusedError("refused"), arrived=False), None, "ConnectionException: no reply"),
    ],
)
def test_what_came_back_survives_a_request_that_fails_later(
    call: Both, fault: Answer, code: Optional[str], text: str
) -> None:
    """Items that ran are returned; those that could not be sent again end by that error, each by itself."""

    class Failing(StandIn):
        def _finish(self, request: Request, started: float) -> Answer:
            return fault if len(self.posts) > 1 else super()._finish(request, started)

    server = Failing(limit=None, fails=0.5)
    given = [{"n": number} for number in range(20)]
    found = call(server, "batch_execute", TASK, given, client={"max_retries": 1})
    ran = [item for item in found.results if item.success]
    failed = [item for item in found.results if not item.success]
    assert ran
    assert failed
    assert [item.id for item in found.results] == [str(number) for number in range(20)]
    assert all(item.output == {"of": given[int(item.id)]} for item in ran)
    assert {item.code for item in failed} == {code}
    assert all("may have run" in item.error_message and text in item.error_message for item in failed)
    assert (found.success_count, found.failure_count) == (len(ran), len(failed))


def test_a_deadline_that_ends_between_two_requests_keeps_what_came_back(call: Both) -> None:
    """It is one deadline for all of them, and the error of the items that are left."""

    class Slow(StandIn):
        def _finish(self, request: Request, started: float) -> Answer:
            if self.batches:
                return NoReply(TimeoutError("late"), arrived=True, timed_out=True)
            return super()._finish(request, started)

    found = call(Slow(fails=0.5), "batch_execute", TASK, [{"n": n} for n in range(20)], client={"deadline": 20})
    assert found.success_count > 0
    assert all("TimeoutException" in item.error_message for item in found.results if not item.success)


def test_where_nothing_came_back_the_error_is_raised(call: Both) -> None:
    """No item of the first request ran, and the second fails."""

    class Failing(StandIn):
        def _finish(self, request: Request, started: float) -> Answer:
            if len(self.posts) > 1:
                return Reply(401, {}, b"{}")
            return super()._finish(request, started)

    with pytest.raises(AuthenticationException):
        call(Failing(limit=None, fails=1.0), "batch_execute", TASK, [{"n": number} for number in range(20)])


async def test_coalesced_calls_that_ran_keep_their_results() -> None:
    """The others fail, as their item did."""

    class Failing(StandIn):
        def _finish(self, request: Request, started: float) -> Answer:
            if len(self.posts) > 1:
                return Reply(401, {}, b"{}")
            return super()._finish(request, started)

    server = Failing(limit=None, fails=0.5)
    async with LoopaiClient(URL, transport=server, coalesce=True) as client:
        results = await asyncio.gather(*(client.execute(TASK, n) for n in range(20)), return_exceptions=True)
    assert {type(each).__name__ for each in results} == {"ExecutionResult", "ExecutionException"}


def test_one_output_that_cannot_be_written_costs_no_other_item(call: Both) -> None:
    """Once items have come back, the others are sent in smaller requests; the one ends by the error."""
    server = StandIn(limit=None, fails=1.0)
    items: list[dict[str, Any]] = [{"n": number} for number in range(60)]
    for number in (13, 14, 47):
        items[number]["surrogate"] = True
    items[0] = {"error": "boom"}
    found = call(server, "batch_execute_advanced", task_id=TASK, items=[{"id": "x", "input": each} for each in items])
    assert [number for number, item in enumerate(found.results) if not item.success] == [0, 13, 14, 47]
    assert {found.results[number].code for number in (13, 14, 47)} == {"INTERNAL_ERROR"}
    assert found.success_count == 56
    assert len(server.posts) < 40


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("pad", [0, 20_000], ids=["500", "broken-off"])
@pytest.mark.parametrize("fails", [0.0, 0.9])
def test_an_output_that_cannot_be_written_fails_its_own_caller(kind: str, pad: int, fails: float) -> None:
    """Those whose calls travelled with it get their results."""
    server = StandIn(limit=None, fails=fails)
    bad = (13, 47)
    inputs: list[dict[str, Any]] = [{"n": number} for number in range(60)]
    for number in bad:
        inputs[number] |= {"surrogate": True, "pad": "x" * pad}

    async def together() -> list[Any]:
        async with LoopaiClient(URL, transport=server, coalesce=True, retry_waits=False) as client:
            return await asyncio.gather(*(client.execute(TASK, each) for each in inputs), return_exceptions=True)

    def in_threads() -> list[Any]:
        found: list[Any] = [None] * len(inputs)
        ready = threading.Barrier(len(inputs))

        def run(place: int) -> None:
            ready.wait()
            try:
                found[place] = client.execute(TASK, inputs[place])
            except LoopaiException as error:
                found[place] = error

        with SyncLoopaiClient(URL, transport=server, coalesce=True, retry_waits=False) as client:
            threads = [threading.Thread(target=run, args=(place,)) for place in range(len(inputs))]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
        return found

    found = in_threads() if kind == "sync" else asyncio.run(together())
    for number, result in enumerate(found):
        if number in bad:
            assert isinstance(result, (ConnectionException, ServerException))
        else:
            assert result.output == {"of": {"n": number}}


async def test_without_retries_such_a_group_goes_out_once() -> None:
    """Sending the others again would run them again: all get the error."""
    server = StandIn(limit=None, fails=0.0)
    async with LoopaiClient(URL, transport=server, coalesce=True, retry_unknown=False) as client:
        calls = (client.execute(TASK, {"n": n, **({"surrogate": 1} if n == 3 else {})}) for n in range(10))
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each) for each in results} == {ServerException}
    assert len(server.posts) == 1


async def test_hooks_hear_the_server_s_error_of_such_a_group() -> None:
    """And of each smaller request as of a call of its own."""
    heard: list[str] = []

    class Ends(Hooks):
        def call_ended(self, call: CallInfo, error: Optional[BaseException]) -> None:
            heard.append(f"{call.operation} {call.items} {type(error).__name__}")

    server = StandIn(limit=None, fails=0.0)
    async with LoopaiClient(URL, transport=server, coalesce=True, hooks=[Ends()]) as client:
        calls = (client.execute(TASK, {"n": n, **({"surrogate": 1} if n == 3 else {})}) for n in range(4))
        await asyncio.gather(*calls, return_exceptions=True)
    assert heard == [
        "list_artifacts 1 NoneType",
        "execute 4 ServerException",
        "execute 2 NoneType",
        "execute 2 ServerException",
        "execute 1 NoneType",
        "execute 1 ServerException",
    ]
