"""The first execution of a task, against a stand-in for the published server: one call has the program made."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from loopai import (
    AuthenticationException,
    ExecutionException,
    LoopaiClient,
    NotFoundException,
    SyncLoopaiClient,
    TimeoutException,
    ValidationException,
)
from loopai._core.hooks import CallInfo, Hooks
from loopai._core.wire import Answer, NoReply, Reply, Request
from loopai.batch import BatchOptions, Outcome, stream, stream_sync
from loopai.performers import LoopPerformer, ThreadPerformer
from loopai.preparation import batch_sender
from loopai.testing import FakeLoopai

from .standin import TASK, URL, StandIn

Call = Callable[[Any], Any]


def bodies(server: StandIn) -> list[Any]:
    return [json.loads(request.content) for request in server.posts]


def sizes(server: StandIn) -> list[int]:
    """Items of each request that executes."""
    return [len(body.get("items", [body])) for body in bodies(server)]


def on_the_clock_of(server: StandIn, client: Any) -> Any:
    """The client, whose deadlines are of the stand-in's time."""
    client._policy = replace(client._policy, clock=server.clock)
    return client


class Together:
    """Simultaneous calls of one client. The first POST is not answered before `waiting` others wait for it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, server: StandIn, calls: list[Call], waiting: int, **options: Any) -> list[Any]:
        options = {"transport": server, "retry_waits": False, **options}
        return self._threads(server, calls, waiting, options) if self.kind == "sync" else asyncio.run(
            self._loop(server, calls, waiting, options)
        )  # fmt: skip

    def _threads(self, server: StandIn, calls: list[Call], waiting: int, options: dict[str, Any]) -> list[Any]:
        joined = threading.Semaphore(0)

        class Counted(ThreadPerformer):
            def waited(self, flight: Future[Any], seconds: Optional[float]) -> bool:
                joined.release()
                return super().waited(flight, seconds)

        class Watched(SyncLoopaiClient):
            _performer = Counted()

        def hold(request: Request) -> None:
            if request.method == "POST" and len(server.posts) == 1:
                for _ in range(waiting):
                    assert joined.acquire(timeout=10)
                assert len(server.posts) == 1

        server.between = hold
        with on_the_clock_of(server, Watched(URL, **options)) as client, ThreadPoolExecutor(len(calls)) as pool:
            futures = [pool.submit(call, client) for call in calls]
            return [future.exception() or future.result() for future in futures]

    async def _loop(self, server: StandIn, calls: list[Call], waiting: int, options: dict[str, Any]) -> list[Any]:
        joined = asyncio.Semaphore(0)

        class Counted(LoopPerformer):
            async def waited(self, flight: Future[Any], seconds: Optional[float]) -> bool:
                joined.release()
                return await super().waited(flight, seconds)

        class Watched(LoopaiClient):
            _performer = Counted()

        class Held:
            async def asend(self, request: Request) -> Answer:
                first = request.method == "POST" and not server.posts
                started, refused = server._begin(request)
                if first:
                    for _ in range(waiting):
                        await joined.acquire()
                    assert len(server.posts) == 1
                return refused or server._out(server._finish(request, started))

            async def aclose(self) -> None:
                """Do nothing."""

        async with on_the_clock_of(server, Watched(URL, **{**options, "transport": Held()})) as client:
            return await asyncio.gather(*(call(client) for call in calls), return_exceptions=True)


@pytest.fixture(params=["sync", "async"])
def together(request: pytest.FixtureRequest) -> Together:
    return Together(request.param)


@pytest.fixture
def call(together: Together) -> Callable[..., Any]:
    """One call by either client; raises what it raises."""

    def run(server: StandIn, made: Call, **options: Any) -> Any:
        (result,) = together(server, [made], 0, **options)
        if isinstance(result, BaseException):
            raise result
        return result

    return run


def executing(number: int, **options: Any) -> Call:
    return lambda client: client.execute(TASK, {"n": number}, **options)


def test_simultaneous_first_executions_have_one_program_made(together: Together) -> None:
    """One goes first; seven wait for it, and go out when there is a program. The artifacts are looked up once."""
    server = StandIn(limit=None, active=False)
    results = together(server, [executing(number) for number in range(8)], 7)
    assert [result.output["of"]["n"] for result in results] == list(range(8))
    assert (server.look_ups, server.generations[TASK]) == (1, 1)
    assert set(server.executions.values()) == {1}


def test_those_who_wait_get_the_error_of_the_first(together: Together) -> None:
    """No program can be made: it was tried, and paid for, once."""
    server = StandIn(limit=None, active=False, generates=False)
    results = together(server, [executing(number) for number in range(8)], 7)
    assert {type(result) for result in results} == {ExecutionException}
    assert {result.code for result in results} == {"EXECUTION_ERROR"}
    assert len({id(result) for result in results}) == 8, "what each adds to its traceback is its own"
    assert (server.look_ups, server.generations[TASK]) == (1, 1)


def test_a_program_that_fails_is_a_program(together: Together) -> None:
    """The first execution's program throws: the others run."""
    server = StandIn(limit=None, active=False)
    calls: list[Call] = [lambda client: client.execute(TASK, {"error": "boom"})]
    if together.kind == "async":  # in threads any of them may be first
        calls += [executing(1)]
    results = together(server, calls, len(calls) - 1)
    assert isinstance(results[0], ExecutionException)
    assert results[0].execution_id is not None
    assert all(result.succeeded for result in results[1:])
    assert server.generations[TASK] == 1


def test_with_a_version_nobody_waits(together: Together) -> None:
    """One look-up for each client and task; everything after it is one request."""
    server = StandIn(limit=None)
    results = together(server, [executing(number) for number in range(4)], 0)
    assert all(result.succeeded for result in results)
    assert (server.look_ups, len(server.requests)) == (1, 5)


def test_a_version_that_is_named_is_not_looked_up(together: Together) -> None:
    """It is there, or the call fails."""
    server = StandIn(limit=None)
    together(server, [executing(number, version=1) for number in range(3)], 0)
    assert (server.look_ups, len(server.requests)) == (0, 3)


def test_each_task_and_client_has_a_look_up_and_copies_share_it() -> None:
    """The artifacts of a task are listed before its first execution by a client."""
    other = "11111111-2222-4333-8444-555555555555"
    server = StandIn(limit=None)
    server.artifacts[other] = [1, 2]
    for _ in range(2):
        with SyncLoopaiClient(URL, transport=server) as client:
            for task in (TASK, other, TASK):
                client.execute(task, 1)
                client.with_options(timeout=5).execute(task, 1, timeout=3)
    assert server.look_ups == 4


@pytest.mark.parametrize(
    "answer",
    [
        Reply(500, {"x-rate-limit-limit": "1h"}, b"{}"),
        Reply(503, {"retry-after": "1"}, b""),
        Reply(404, {}, b""),
        Reply(401, {}, b""),
        Reply(200, {}, b"<html>"),
        NoReply(ConnectionRefusedError("refused"), arrived=False),
        NoReply(TimeoutError("late"), arrived=True, timed_out=True),
    ],
)
def test_a_look_up_that_fails_counts_as_a_version(call: Callable[..., Any], answer: Answer) -> None:
    """It is tried once, and the call is made as if there had been no look-up."""

    class Unlisted(StandIn):
        def _finish(self, request: Request, started: float) -> Answer:
            return answer if request.method == "GET" else super()._finish(request, started)

    server = Unlisted(limit=None)

    async def twice(client: LoopaiClient) -> Any:
        await client.execute(TASK, 1)
        return await client.execute(TASK, 2)

    def twice_sync(client: SyncLoopaiClient) -> Any:
        client.execute(TASK, 1)
        return client.execute(TASK, 2)

    result = call(server, lambda client: (twice_sync if isinstance(client, SyncLoopaiClient) else twice)(client))
    assert result.output == {"of": 2}
    assert (server.look_ups, len(server.posts)) == (1, 2)
    assert server.posts[0].timeout == 30


def test_the_look_up_is_within_the_deadline(call: Callable[..., Any]) -> None:
    """What it takes is gone; nothing is sent when no time is left."""

    class Slow(StandIn):
        def _finish(self, request: Request, started: float) -> Answer:
            if request.method == "GET":
                self.sleep(5)
            return super()._finish(request, started)

    server = Slow(limit=None)
    call(server, executing(1), deadline=20)
    assert [request.timeout for request in server.requests] == [20, 15]
    server = Slow(limit=None)
    with pytest.raises(TimeoutException, match=r"deadline of 5 s"):
        call(server, executing(1), deadline=5)
    assert not server.posts


# The time that a first execution has


def test_a_first_execution_has_the_time_to_make_a_program(call: Callable[..., Any]) -> None:
    """A hundred seconds more than `timeout`; the next execution has no more than others."""
    server = StandIn(limit=None, active=False, generation=96)
    call(server, executing(1))
    assert server.posts[0].timeout == 130
    server = StandIn(limit=None, active=False, generation=96)
    batch = call(server, lambda client: client.batch_execute(TASK, [{"n": number} for number in range(3)], 1))
    assert batch.success_count == 3
    assert [request.timeout for request in server.posts] == [30 + 5 + 100, 30 + 2 * 5]


def test_a_first_execution_has_no_more_deadline(call: Callable[..., Any]) -> None:
    """`deadline` is what the caller waits at most."""
    server = StandIn(limit=None, active=False, generation=96)
    with pytest.raises(TimeoutException, match="deadline of 50 s"):
        call(server, executing(1), deadline=50)
    assert server.posts[0].timeout == 50


@pytest.mark.parametrize("answer", [None, Reply(504, {}, b"")])
def test_a_first_execution_is_not_repeated_after_a_timeout(together: Together, answer: Optional[Answer]) -> None:
    """The client's or a proxy's: the server may still be making the program, and would make another."""

    class Late(StandIn):
        def _finish(self, request: Request, started: float) -> Answer:
            late = super()._finish(request, started)
            return answer if answer is not None and request.method == "POST" else late

    server = Late(limit=None, active=False, generation=200)
    results = together(server, [executing(number) for number in range(3)], 2)
    assert {type(result) for result in results} == {TimeoutException}
    assert len(server.posts) == 1


def test_a_first_execution_that_did_not_arrive_is_repeated(call: Callable[..., Any]) -> None:
    """Nothing was made for it."""

    class Refusing(StandIn):
        def _begin(self, request: Request) -> tuple[float, Optional[Answer]]:
            if request.method == "POST" and not self.posts:
                self.requests.append(request)
                return self.now, NoReply(TimeoutError("no connection"), arrived=False, timed_out=True)
            return super()._begin(request)

    server = Refusing(limit=None, active=False)
    assert call(server, executing(1)).succeeded
    assert (len(server.posts), server.generations[TASK]) == (2, 1)


# Who waits


def test_who_waits_keeps_a_deadline_of_its_own(together: Together) -> None:
    """The first is not answered before the other has given up."""
    arrived, over = threading.Event(), threading.Event()

    class Held(StandIn):
        def send(self, request: Request) -> Answer:
            if request.method == "POST":
                arrived.set()
                assert over.wait(10)
            return super().send(request)

        async def asend(self, request: Request) -> Answer:
            if request.method == "POST":
                await over_in_loop[0].wait()
            return await super().asend(request)

    over_in_loop: list[asyncio.Event] = []
    server = Held(limit=None, active=False)
    if together.kind == "sync":
        with SyncLoopaiClient(URL, transport=server) as client, ThreadPoolExecutor(1) as pool:
            first = pool.submit(client.execute, TASK, 1)
            assert arrived.wait(10)
            with pytest.raises(TimeoutException, match="another call of this client"):
                client.with_options(deadline=0.05).execute(TASK, 2)
            over.set()
            assert first.result().output == {"of": 1}
        return

    async def run() -> None:
        over_in_loop.append(asyncio.Event())
        async with LoopaiClient(URL, transport=server) as client:
            first = asyncio.create_task(client.execute(TASK, 1))
            await asyncio.sleep(0)
            with pytest.raises(TimeoutException, match="another call of this client"):
                await client.with_options(deadline=0.05).execute(TASK, 2)
            over_in_loop[0].set()
            assert (await first).output == {"of": 1}

    asyncio.run(run())


async def test_cancelling_who_waits_or_goes_first_is_nobody_else_s_matter() -> None:
    """Of those who wait the next goes first then."""
    server = StandIn(limit=None, active=False)
    over = asyncio.Event()

    class Held(StandIn):
        async def asend(self, request: Request) -> Answer:
            if request.method == "POST":
                await over.wait()
            return await super().asend(request)

    server = Held(limit=None, active=False)
    async with LoopaiClient(URL, transport=server) as client:
        calls = [asyncio.create_task(client.execute(TASK, {"n": number})) for number in range(5)]
        for _ in range(20):
            await asyncio.sleep(0)
        for cancelled in (calls[2], calls[0]):
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        over.set()
        results = await asyncio.gather(*(calls[place] for place in (1, 3, 4)))
    assert [result.output["of"]["n"] for result in results] == [1, 3, 4]
    assert (server.look_ups, server.generations[TASK]) == (1, 1)


def test_a_refused_input_is_the_first_one_s_own(together: Together) -> None:
    """A 400 says nothing of the task: the next goes first."""

    class Checking(StandIn):
        def _finish(self, request: Request, started: float) -> Answer:
            if request.method == "POST" and json.loads(request.content)["input"] == {"n": "wrong"}:
                self._generating[TASK] -= 1
                return Reply(400, {}, b'{"code": "VALIDATION_ERROR", "message": "Request validation failed"}')
            return super()._finish(request, started)

    server = Checking(limit=None, active=False)
    calls = [executing("wrong"), executing(1), executing(2)]  # type: ignore[arg-type]  # what the server refuses
    results = together(server, calls, 2)
    assert sorted(type(result).__name__ for result in results) == ["ExecutionResult"] * 2 + ["ValidationException"]
    assert any(isinstance(result, ValidationException) for result in results)
    assert server.generations[TASK] == 1


def test_event_loops_in_threads_wait_for_one_first_execution() -> None:
    """One client serves any number of loops."""
    server = StandIn(limit=None, active=False)
    waiting = threading.Semaphore(0)

    class Counted(LoopPerformer):
        async def waited(self, flight: Future[Any], seconds: Optional[float]) -> bool:
            waiting.release()
            return await super().waited(flight, seconds)

    class Watched(LoopaiClient):
        _performer = Counted()

    class Held(StandIn):
        async def asend(self, request: Request) -> Answer:
            if request.method == "POST" and not self.posts:
                started, refused = self._begin(request)
                assert waiting.acquire(timeout=10)
                return refused or self._finish(request, started)
            return await super().asend(request)

    server = Held(limit=None, active=False)
    client = Watched(URL, transport=server)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda number: asyncio.run(client.execute(TASK, {"n": number})), range(2)))
    assert [result.output["of"]["n"] for result in results] == [0, 1]
    assert server.generations[TASK] == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_wait_for_its_parent() -> None:
    """The parent's call has not ended, and never will in the child."""
    server = StandIn(limit=None, active=False)
    with SyncLoopaiClient(URL, transport=server) as client:
        turn = client._firsts.turn(TASK)
        assert turn is not None
        assert turn.leads
        child = os.fork()
        if not child:  # what it raises would be this test's
            with contextlib.suppress(BaseException):
                os._exit(0 if client.with_options(deadline=5).execute(TASK, 1).succeeded else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        turn.end()


# Batches of one request, and calls that travel together


def test_a_batch_sends_one_item_alone_first(call: Callable[..., Any]) -> None:
    """Its items would race each other; the replies become one."""
    for name in ("batch_execute", "batch_execute_advanced"):
        server = StandIn(limit=None, active=False, fails=0.0)
        items: list[Any] = [{"n": number} for number in range(10)]
        given: dict[str, Any] = {"task_id": TASK, "inputs": items}
        if name == "batch_execute_advanced":
            given = {"task_id": TASK, "items": [{"id": str(n), "input": item} for n, item in enumerate(items)]}
        found = call(server, lambda client, name=name, given=given: getattr(client, name)(**given))
        assert [item.output["of"]["n"] for item in found.results] == list(range(10))
        assert (sizes(server), server.generations[TASK], server.look_ups) == ([1, 9], 1, 1)
        assert (found.success_count, found.reply.attempts) == (10, 2)


def test_a_batch_without_a_program_ends_every_item_as_the_first(call: Callable[..., Any]) -> None:
    """The others are not sent: each would have the server try again."""
    server = StandIn(limit=None, active=False, generates=False)
    found = call(server, lambda client: client.batch_execute(TASK, [1, 2, 3]))
    assert {item.error_message for item in found.results} == {"Program generation failed: cannot generate"}
    assert (found.failure_count, server.generations[TASK]) == (3, 1)


def test_a_batch_of_an_unknown_task_asks_once(call: Callable[..., Any]) -> None:
    """As the first item, so the others."""
    server = StandIn(limit=None)
    server.artifacts.clear()
    found = call(server, lambda client: client.batch_execute(TASK, [1, 2, 3]))
    assert {item.error_message for item in found.results} == {f"Task with ID {TASK} not found"}
    assert sizes(server) == [1]


def test_calls_and_batches_wait_for_each_other(together: Together) -> None:
    """Whoever comes first has the program made."""
    server = StandIn(limit=None, active=False, fails=0.0)
    calls: list[Call] = [
        executing(1),
        lambda client: client.batch_execute(TASK, [{"n": 2}, {"n": 3}]),
        lambda client: client.batch_execute_advanced(task_id=TASK, items=[{"id": "4", "input": {"n": 4}}]),
        executing(5),
    ]
    results = together(server, calls, 3)
    assert not [result for result in results if isinstance(result, BaseException)]
    assert (server.generations[TASK], server.look_ups) == (1, 1)
    assert set(server.executions.values()) == {1}
    assert len(server.executions) == 5


def test_coalesced_calls_have_one_program_made(together: Together) -> None:
    """Sixty at once travel as one group, of which one goes alone first; in threads several groups wait."""
    server = StandIn(limit=None, active=False, fails=0.0)
    results = together(server, [executing(number) for number in range(60)], 0, coalesce=True)
    assert [result.output["of"]["n"] for result in results] == list(range(60))
    assert (server.generations[TASK], server.look_ups, sizes(server)[0]) == (1, 1, 1)


def test_coalesced_calls_get_the_error_of_the_first(together: Together) -> None:
    """Each its own copy of it."""
    server = StandIn(limit=None, active=False, generates=False)
    results = together(server, [executing(number) for number in range(20)], 0, coalesce=True)
    assert {type(result) for result in results} == {ExecutionException}
    assert server.look_ups == 1
    if together.kind == "async":  # of threads, some come after the first has failed, and are first themselves
        assert server.generations[TASK] == 1


def test_an_unrun_first_item_goes_out_again_alone(call: Callable[..., Any]) -> None:
    """Another client races: the server could not record the item, or make the program."""

    class Racing(StandIn):
        def _item(self, task: str, item: dict[str, Any], together: bool, missing: Optional[str]) -> dict[str, Any]:
            if len(self.posts) == 1:
                missing = "An error occurred while saving the entity changes. See the inner exception for details."
            return super()._item(task, item, together, missing)

    server = Racing(limit=None, active=False, fails=0.0)
    found = call(server, lambda client: client.batch_execute(TASK, [1, 2, 3]))
    assert found.success_count == 3
    assert sizes(server) == [1, 1, 2]


# Runs


@pytest.fixture(params=["async", "sync"])
def collect(request: pytest.FixtureRequest) -> Callable[..., list[Outcome]]:
    """The outcomes of a stream against a stand-in, by either client; time is the stand-in's."""

    def run(server: StandIn, rows: Any, **options: Any) -> list[Outcome]:
        checked = BatchOptions(**{"mode": "resume", **options})
        if request.param == "sync":
            with SyncLoopaiClient(URL, transport=server) as client:
                return list(
                    stream_sync(batch_sender(client), TASK, rows, checked, clock=server.clock, sleep=server.sleep)
                )

        async def gather() -> list[Outcome]:
            async with LoopaiClient(URL, transport=server) as client:
                sender = batch_sender(client)
                outcomes = stream(sender, TASK, rows, checked, clock=server.clock, sleep=server.asleep)
                return [each async for each in outcomes]

        return asyncio.run(gather())

    return run


def rows(count: int) -> list[dict[str, Any]]:
    return [{"n": number} for number in range(count)]


@pytest.mark.parametrize("options", [{}, {"ordered": True}, {"max_in_flight": 1}, {"chunk_size": 1}])
def test_a_run_sends_one_row_alone_first(collect: Callable[..., list[Outcome]], options: dict[str, Any]) -> None:
    """Nothing else is under way until it is answered; then the run goes on as any other."""
    server = StandIn(limit=None, active=False, fails=0.0, generation=96)
    outcomes = collect(server, rows(500), **options)
    assert Counter(outcome.status for outcome in outcomes) == {"ok": 500}
    assert {outcome.attempts for outcome in outcomes} == {1}
    assert (sizes(server)[0], server.generations[TASK], server.look_ups) == (1, 1, 1)
    assert len(server.posts) <= (500 if options.get("chunk_size") else 10)
    assert server.posts[0].timeout == 30 + 5 + 100
    if options.get("ordered"):
        assert [outcome.row.input["n"] for outcome in outcomes] == list(range(500))


def test_a_run_with_a_version_sends_no_row_alone(collect: Callable[..., list[Outcome]]) -> None:
    """As before."""
    server = StandIn(limit=None, fails=0.0)
    collect(server, rows(300))
    assert sizes(server) == [100, 100, 100]


def test_a_run_without_a_program_ends_after_one_row(collect: Callable[..., list[Outcome]]) -> None:
    """One generation is tried for all rows."""
    server = StandIn(limit=None, active=False, generates=False)
    with pytest.raises(ExecutionException, match="Program generation failed"):
        collect(server, rows(500))
    assert (sizes(server), server.generations[TASK]) == ([1], 1)


@pytest.mark.parametrize("answer", [None, Reply(504, {}, b"")])
def test_a_run_whose_first_row_times_out_ends_as_unreachable(
    collect: Callable[..., list[Outcome]], answer: Optional[Answer]
) -> None:
    """The server may still be making the program: run it again with resume."""

    class Late(StandIn):
        def _finish(self, request: Request, started: float) -> Answer:
            late = super()._finish(request, started)
            return answer if answer is not None and request.method == "POST" else late

    server = Late(limit=None, active=False, generation=200)
    with pytest.raises(TimeoutException):
        collect(server, rows(500))
    assert sizes(server) == [1]


def test_a_limiter_delays_the_first_row_and_no_more(collect: Callable[..., list[Outcome]]) -> None:
    """What it refuses has no program made."""
    server = StandIn(active=False, limit=1, fails=0.0)
    outcomes = collect(server, rows(300))
    assert Counter(outcome.status for outcome in outcomes) == {"ok": 300}
    assert server.generations[TASK] == 1


def test_runs_and_calls_of_one_client_wait_for_each_other(together: Together) -> None:
    """Two runs and a call at the same time: one generation."""
    server = StandIn(limit=None, active=False, fails=0.0)

    async def run(client: LoopaiClient) -> Any:
        return [outcome async for outcome in client.batch_stream(TASK, rows(50))]

    def run_sync(client: SyncLoopaiClient) -> Any:
        return list(client.batch_stream(TASK, rows(50)))

    def start(client: Any) -> Any:
        return run_sync(client) if isinstance(client, SyncLoopaiClient) else run(client)

    results = together(server, [start, start, executing(1000)], 2)
    assert all(outcome.ok for outcomes in results[:2] for outcome in outcomes)
    assert (server.generations[TASK], server.look_ups) == (1, 1)


# Who sees it


def test_hooks_see_the_look_up_as_a_call_of_its_own(call: Callable[..., Any]) -> None:
    """The execution has one attempt, and so has its result."""
    seen: list[tuple[str, int]] = []

    class Watching(Hooks):
        def call_ended(self, call: CallInfo, error: Optional[BaseException]) -> None:
            seen.append((call.operation, call.attempts))

    server = StandIn(limit=None, active=False)
    result = call(server, executing(1), hooks=[Watching()])
    assert seen == [("list_artifacts", 1), ("execute", 1)]
    assert result.reply.attempts == 1


def test_a_wrong_key_is_told_by_the_execution(call: Callable[..., Any]) -> None:
    """Not hidden by the look-up, and not tried twice."""

    class Closed(StandIn):
        def _finish(self, request: Request, started: float) -> Answer:
            return Reply(401, {}, b"{}")

    server = Closed(limit=None)
    with pytest.raises(AuthenticationException):
        call(server, executing(1))
    assert len(server.requests) == 2


def test_an_unknown_task_fails_for_all_who_wait(together: Together) -> None:
    """The artifacts of an unknown task are an empty list."""
    server = StandIn(limit=None)
    server.artifacts.clear()
    results = together(server, [executing(number) for number in range(4)], 3)
    assert {type(result) for result in results} == {NotFoundException}
    assert len(server.posts) == 1


@pytest.fixture
def fake() -> FakeLoopai:
    return FakeLoopai()


def test_a_fake_answers_the_look_up(fake: FakeLoopai) -> None:
    """What a test programmed is a program; faults that are counted are met by the execution."""
    task = fake.task("t").returns("out")
    fake.rate_limits(times=1)
    task.times_out(times=1)
    with fake.client() as client:
        result = client.execute("t", 1)
        client.execute("t", 2)
        assert client.list_artifacts("t")[0].status == "active"
    assert (result.output, result.reply.attempts) == ("out", 3)
    paths = [(request.method, request.url.rpartition("/")[2]) for request in fake.requests]
    assert paths == [("GET", "artifacts"), *[("POST", "execute")] * 4, ("GET", "artifacts")]
    fake.operation("list_artifacts").raises(500, times=1)
    with fake.client() as client:
        assert client.execute("t", 3).output == "out"


def test_the_edge_looks_nothing_up(fake: FakeLoopai) -> None:
    """A program that runs here was made before; loading it asks for the artifacts once."""
    pytest.importorskip("pydantic_monty")
    from loopai.shell.edge import at_edge

    fake.task("t")
    with fake.client() as client:
        task = client.create_task("t", "d", {}, {})
        client.push_program(task.id, "def main(input):\n    return input\n")
        before = len(fake.requests)
        with at_edge(client) as edge:
            assert all(outcome.ok for outcome in edge.batch_stream(task.id, [1, 2, 3]))
    paths = [request.url.partition(f"/tasks/{task.id}")[2] for request in fake.requests[before:]]
    assert paths == ["", "/artifacts", "/artifacts/1"]


@pytest.mark.parametrize("given", ["command", "run_batch"])
def test_the_command_sends_one_row_alone_first(given: str, tmp_path: Path) -> None:
    """Over a socket, as users do: `loopai batch`, and `run_batch`."""
    server = StandIn(limit=None, active=False, fails=0.0, item_ms=0.0)
    path, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows(300)))
    with server.served() as url:
        if given == "command":
            words = ["batch", TASK, str(path), "--output", str(output), "--base-url", url, "--progress", "none"]
            done = subprocess.run(
                [sys.executable, "-m", "loopai", *words], capture_output=True, text=True, check=False, timeout=120
            )
            assert done.returncode == 0, done.stderr
        else:
            with SyncLoopaiClient(url) as client:
                assert client.run_batch(TASK, str(path), str(output)).ok == 300
    assert len(output.read_text().splitlines()) == 300
    assert (sizes(server)[0], server.generations[TASK], len(server.posts)) == (1, 1, 4)
    assert set(server.executions.values()) == {1}


@pytest.mark.skipif(sys.version_info < (3, 10), reason="the embedded server needs Python 3.10")
def test_the_embedded_server_makes_one_program_for_all(tmp_path: Path) -> None:
    """Simultaneous first executions by clients that know nothing of each other: one generation, and none fails."""
    examples = [{"input": {"n": number}, "output": {"double": 2 * number}} for number in range(6)]
    gate = threading.Barrier(8)
    with SyncLoopaiClient.local(tmp_path) as owner:
        task = owner.create_task("double", "d", {"type": "object"}, {"type": "object"}, examples=examples)

        def execute(number: int) -> Any:
            # Neither a look-up nor a wait for others: the server alone is what is looked at.
            with SyncLoopaiClient.local(tmp_path, timeout=130) as client:
                client._firsts.note_program(str(task.id))
                gate.wait()
                if number % 2:
                    return client.execute(task.id, {"n": number}).output
                return client.batch_execute(task.id, [{"n": number}] * 5).results[0].output

        with ThreadPoolExecutor(8) as pool:
            outputs = list(pool.map(execute, range(8)))
        assert outputs == [{"double": 2 * number} for number in range(8)]
        assert len(owner.list_artifacts(task.id)) == 1


def test_a_first_call_that_is_gone_without_a_word_holds_nobody_up(together: Together) -> None:
    """An exception of a signal handler may come at any step: who waits, or comes later, goes first then."""
    server = StandIn(limit=None, active=False)
    lost: list[Any] = []

    async def wait(client: LoopaiClient) -> Any:
        lost.append(client._firsts.turn(TASK))
        call = asyncio.create_task(client.execute(TASK, 1))
        await asyncio.sleep(0)
        lost.clear()
        return await call

    def wait_sync(client: SyncLoopaiClient) -> Any:
        turn = client._firsts.turn(TASK)
        assert turn is not None
        assert turn.leads
        del turn
        return client.execute(TASK, 1)

    (result,) = together(
        server, [lambda client: (wait_sync if isinstance(client, SyncLoopaiClient) else wait)(client)], 0
    )
    assert result.output == {"of": 1}
    assert server.generations[TASK] == 1
