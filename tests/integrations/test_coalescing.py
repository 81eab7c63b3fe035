"""`coalesce=True`: calls of the same moment travel as one request, and each gets what is its own."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Optional

import pytest

from loopai import (
    ConfigurationError,
    ExecutionException,
    LoopaiClient,
    ServerException,
    SyncLoopaiClient,
    ValidationException,
)
from loopai.transports import Answer, Reply, Request

TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"
ID = "c2d3e4f5-0617-4283-9a4b-5c6d7e8f9012"


class Recorder:
    """A transport that answers executions and batches by echo, and keeps what it was sent."""

    has_programs = True

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.sent: list[dict[str, Any]] = []
        self.hold: Optional[asyncio.Event] = None
        self.held: Optional[Callable[[], None]] = None
        self.cancelled = 0

    def answer(self, request: Request) -> Answer:
        body = json.loads(request.content)
        self.sent.append(body)
        if self.status != 200:
            return Reply(self.status, {}, b'{"code": "SOME_ERROR", "message": "no"}')
        items = body.get("items", [{"id": "", "input": body.get("input")}])
        results = [self.result(item) for item in items]
        if "items" in body:
            content: dict[str, Any] = {
                "batch_id": ID, "task_id": TASK, "version": 0, "total_items": len(items), "success_count": 0,
                "failure_count": 0, "results": results,
            }  # fmt: skip
        else:
            content = {**results[0], "task_id": TASK, "version": 3, "status": "success", "execution_id": ID}
        return Reply(200, {"x": "y"}, json.dumps(content).encode())

    def result(self, item: dict[str, Any]) -> dict[str, Any]:
        if item["input"] == "bad":
            return {"id": item["id"], "success": False, "error_message": "bad input", "latency_ms": 1}
        return {"id": item["id"], "execution_id": ID, "success": True, "output": item["input"], "latency_ms": 1}

    def send(self, request: Request) -> Answer:
        if self.held is not None:
            self.held()
        return self.answer(request)

    def close(self) -> None:
        pass

    async def asend(self, request: Request) -> Answer:
        if self.hold is not None:
            try:
                await self.hold.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return self.answer(request)

    async def aclose(self) -> None:
        pass

    @property
    def sizes(self) -> list[int]:
        return [len(body.get("items", [1])) for body in self.sent]


def client_on(recorder: Recorder, **options: Any) -> LoopaiClient:
    return LoopaiClient(transport=recorder, coalesce=True, max_retries=0, **options)


async def test_calls_of_one_turn_are_one_request() -> None:
    """A gather of calls is one batch whose concurrency is its size; each caller gets its own output."""
    recorder = Recorder()
    client = client_on(recorder)
    results = await asyncio.gather(*(client.execute(TASK, number) for number in range(30)))
    assert [result.output for result in results] == list(range(30))
    assert recorder.sizes == [30]
    assert recorder.sent[0]["max_concurrency"] == 30
    assert results[0].program_id is results[0].version is results[0].executed_at is None
    assert results[0].reply is not None
    assert results[0].reply.status_code == 200


async def test_a_single_call_goes_as_it_would_alone() -> None:
    """One pending call is a plain execute request, with all that its reply says."""
    recorder = Recorder()
    result = await client_on(recorder).execute(TASK, {"text": "x"})
    assert recorder.sent == [{"task_id": TASK, "input": {"text": "x"}}]
    assert (result.version, result.output) == (3, {"text": "x"})
    assert result.reply is not None


async def test_groups_are_at_most_a_hundred() -> None:
    """What does not fit goes in the next request."""
    recorder = Recorder()
    client = client_on(recorder)
    await asyncio.gather(*(client.execute(TASK, number) for number in range(250)))
    assert recorder.sizes == [100, 100, 50]


async def test_groups_are_bounded_in_bytes() -> None:
    """Large inputs travel in smaller company."""
    recorder = Recorder()
    client = client_on(recorder)
    await asyncio.gather(*(client.execute(TASK, "x" * 400_000) for _ in range(5)))
    assert recorder.sizes == [2, 2, 1]


async def test_only_equals_travel_together() -> None:
    """A version, a timeout or forced validation of a call's own makes a group of its own."""
    recorder = Recorder()
    client = client_on(recorder)
    await asyncio.gather(
        client.execute(TASK, 1),
        client.execute(TASK, 2),
        client.execute(TASK, 3, version=2),
        client.execute(TASK, 4, version=2),
        client.execute(TASK, 5, timeout_ms=9),
        client.execute(TASK, 6, force_validation=True),
        client.execute(TASK, 7, force_validation=True),
    )
    assert sorted(recorder.sizes) == [1, 2, 2, 2]
    assert {(body.get("version"), body.get("timeout_ms")) for body in recorder.sent} == {
        (None, None),
        (2, None),
        (None, 9),
    }
    forced = [[item.get("force_validation", False) for item in body.get("items", [])] for body in recorder.sent]
    assert [True, True] in forced


async def test_a_failing_item_is_its_own_callers() -> None:
    """The others of the group get their results."""
    recorder = Recorder()
    client = client_on(recorder)
    good, bad, returned = await asyncio.gather(
        client.execute(TASK, "good"),
        client.execute(TASK, "bad"),
        client.execute(TASK, "bad", raise_on_error=False),
        return_exceptions=True,
    )
    assert recorder.sizes == [3]
    assert not isinstance(good, BaseException)
    assert good.output == "good"
    assert isinstance(bad, ExecutionException)
    assert bad.message == "bad input"
    assert not isinstance(returned, BaseException)
    assert returned.error_message == "bad input"


async def test_an_input_that_cannot_be_sent_is_its_own_callers() -> None:
    """It never joins a group."""
    recorder = Recorder()
    client = client_on(recorder)
    good, bad = await asyncio.gather(
        client.execute(TASK, "good"), client.execute(TASK, object()), return_exceptions=True
    )
    assert not isinstance(good, BaseException)
    assert isinstance(bad, ValidationException)


async def test_a_failing_request_is_every_callers() -> None:
    """Each gets an exception of its own, as tracebacks grow where they are raised."""
    recorder = Recorder(status=500)
    client = client_on(recorder)
    errors = await asyncio.gather(*(client.execute(TASK, n) for n in range(3)), return_exceptions=True)
    assert all(isinstance(error, ServerException) and error.code == "SOME_ERROR" for error in errors)
    assert len({id(error) for error in errors}) == 3
    assert len(recorder.sent) == 1


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_one_cancelled_caller_leaves_the_others() -> None:
    """The request goes on for those who still wait."""
    recorder = Recorder()
    recorder.hold = asyncio.Event()
    client = client_on(recorder)
    calls = [asyncio.ensure_future(client.execute(TASK, number)) for number in range(3)]
    await turns()
    calls[1].cancel()
    await turns()
    recorder.hold.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[1], asyncio.CancelledError)
    assert [result.output for result in results if not isinstance(result, BaseException)] == [0, 2]
    assert recorder.cancelled == 0


async def test_cancelling_all_cancels_the_request() -> None:
    """Nobody waits, so nothing is waited for."""
    recorder = Recorder()
    recorder.hold = asyncio.Event()
    client = client_on(recorder)
    calls = [asyncio.ensure_future(client.execute(TASK, number)) for number in range(3)]
    await turns()
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await turns()
    assert recorder.cancelled == 1
    assert recorder.sent == []


async def test_a_caller_cancelled_before_the_request_is_not_in_it() -> None:
    """What was given up in the same turn is not sent."""
    recorder = Recorder()
    client = client_on(recorder)

    async def give_up() -> None:
        call = asyncio.ensure_future(client.execute(TASK, "given up"))
        asyncio.get_running_loop().call_soon(call.cancel)
        await asyncio.gather(call, return_exceptions=True)

    await asyncio.gather(give_up(), client.execute(TASK, "kept"))
    assert "given up" not in json.dumps(recorder.sent)


def test_loops_do_not_mix() -> None:
    """One client in several loops at once groups each loop's calls by themselves."""
    recorder = Recorder()
    client = client_on(recorder)

    async def many(start: int) -> list[Any]:
        results = await asyncio.gather(*(client.execute(TASK, n) for n in range(start, start + 20)))
        return [result.output for result in results]

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda start: asyncio.run(many(start)), [0, 100, 200, 300]))
    assert found == [list(range(start, start + 20)) for start in (0, 100, 200, 300)]
    assert recorder.sizes == [20] * 4


async def test_copies_group_by_their_own_options() -> None:
    """A copy with another deadline does not join the original's groups."""
    recorder = Recorder()
    client = client_on(recorder)
    patient = client.with_options(deadline=60)
    await asyncio.gather(client.execute(TASK, 1), patient.execute(TASK, 2), patient.execute(TASK, 3))
    assert sorted(recorder.sizes) == [1, 2]


class FirstHeld(Recorder):
    """Its first request is out until it is told that the others are over."""

    def __init__(self) -> None:
        super().__init__()
        self.out = threading.Event()
        self.over = threading.Event()

    def send(self, request: Request) -> Answer:
        if not self.out.is_set():
            self.out.set()
            assert self.over.wait(30)
        return super().send(request)


def test_threads_join_a_call_under_way() -> None:
    """While one thread's request is out, those of others gather; every thread gets its own result."""
    recorder = FirstHeld()
    client = SyncLoopaiClient(transport=recorder, coalesce=True)

    def work(worker: int) -> list[Any]:
        return [client.execute(TASK, [worker, n]).output for n in range(50)]

    with ThreadPoolExecutor(16) as threads:
        first = threads.submit(client.execute, TASK, "first")
        assert recorder.out.wait(30)
        found = list(threads.map(work, range(15)))
        recorder.over.set()
        assert first.result().output == "first"
    assert found == [[[worker, n] for n in range(50)] for worker in range(15)]
    assert sum(recorder.sizes) == 751
    assert len(recorder.sizes) < 751


def test_a_lone_thread_sends_plain_requests() -> None:
    """Nobody to wait for: nothing is gathered."""
    recorder = Recorder()
    client = SyncLoopaiClient(transport=recorder, coalesce=True)
    assert [client.execute(TASK, n).output for n in range(3)] == [0, 1, 2]
    assert recorder.sent == [{"task_id": TASK, "input": n} for n in range(3)]


def test_a_failing_request_is_every_threads() -> None:
    """A group's leader and those who joined it get the same error, each its own."""
    recorder = Recorder(status=500)
    client = SyncLoopaiClient(transport=recorder, coalesce=True, max_retries=0)
    start = threading.Barrier(8)

    def work(n: int) -> Optional[str]:
        start.wait()
        with pytest.raises(ServerException) as caught:
            client.execute(TASK, n)
        return caught.value.code

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(8))) == ["SOME_ERROR"] * 8


def test_a_faulty_configuration_is_every_threads() -> None:
    """What is no error of the server's is not taken for an interruption by those who joined."""
    begun, over = threading.Event(), threading.Event()

    def key() -> str:
        if not begun.is_set():
            begun.set()
            assert over.wait(10)
        return ""

    client = SyncLoopaiClient(transport=Recorder(), coalesce=True, api_key=key)
    start = threading.Barrier(16)

    def work(n: int) -> None:
        if n:
            start.wait()
        with pytest.raises(ConfigurationError, match="api_key"):
            client.execute(TASK, n)

    with ThreadPoolExecutor(17) as threads:
        first = threads.submit(work, 0)
        assert begun.wait(10)
        # While a call is under way, the next one waits for others to join it.
        others = [threads.submit(work, n) for n in range(1, 17)]
        for other in others:
            other.result()
        over.set()
        first.result()


def test_an_interrupted_leader_releases_those_who_joined() -> None:
    """The interrupt is the leader's; the others are told to ask again, and the next call is right."""
    recorder = Recorder()
    client = SyncLoopaiClient(transport=recorder, coalesce=True)

    def interrupt() -> None:
        recorder.held = None
        raise KeyboardInterrupt

    recorder.held = interrupt
    with pytest.raises(KeyboardInterrupt):
        client.execute(TASK, 1)
    assert client.execute(TASK, 2).output == 2


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_groups_for_itself() -> None:
    """A child forked while a group is out in the parent starts with none."""
    recorder = Recorder()
    client = SyncLoopaiClient(transport=recorder, coalesce=True)
    inside, go_on = threading.Event(), threading.Event()

    def held() -> None:
        inside.set()
        go_on.wait(10)

    recorder.held = held
    with ThreadPoolExecutor(1) as threads:
        parent_call = threads.submit(client.execute, TASK, "parent")
        assert inside.wait(10)
        child = os.fork()
        if child == 0:
            recorder.held = None
            os._exit(0 if client.execute(TASK, "child").output == "child" else 1)
        go_on.set()
        assert parent_call.result(10).output == "parent"
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
