"""What hooks hear of a call, in which order, and what becomes of their own exceptions."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Optional

import pytest

from loopai import CallInfo, Hooks, LoopaiClient, SyncLoopaiClient
from loopai._core.wire import Answer, NoReply, Reply, Request
from loopai.exceptions import ConfigurationError, NotFoundException
from loopai.testing import FakeLoopai

TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"


class Diary(Hooks):
    """Writes down what it hears; raises where it is told to."""

    def __init__(self, name: str, heard: list[str], raises: Optional[str] = None) -> None:
        self.name = name
        self.heard = heard
        self.raises = raises
        self.calls: list[CallInfo] = []

    def _note(self, text: str) -> None:
        self.heard.append(f"{self.name} {text}")
        if self.raises and text.startswith(self.raises):
            raise KeyError(text)

    def call_started(self, call: CallInfo) -> None:
        self.calls.append(call)
        self._note(f"started {call.operation} {call.attempts}")

    def attempt_started(self, call: CallInfo, request: Request) -> None:
        request.headers[f"x-{self.name}"] = str(call.attempts)  # type: ignore[index]  # headers may be added to
        self._note(f"attempt {call.attempts} {request.method}")

    def attempt_ended(self, call: CallInfo, answer: Answer) -> None:
        self._note(f"answer {answer.status if isinstance(answer, Reply) else type(answer.error).__name__}")

    def call_ended(self, call: CallInfo, error: Optional[BaseException]) -> None:
        self._note(f"ended {type(error).__name__}")


def test_in_order(calls: Any, recorder: Any, example: Callable[[str], bytes]) -> None:
    """Each hook hears of the call, of each attempt and answer, and of the end; headers it adds are sent."""
    heard: list[str] = []
    recorder.fail(OSError("x")).give(503).give(200, example("execute.response.success"))
    client = calls.client(hooks=[Diary("a", heard), Diary("b", heard)], retry_waits=True, headers={"x-own": "1"})
    recorder.answers[1] = Reply(503, {"retry-after": "0.001"}, b"")
    recorder.answers[0] = NoReply(OSError("x"), arrived=False)
    calls("execute", TASK, 1, client=client.with_options(retry_waits=False))
    assert heard == [
        "a started execute 0", "b started execute 0",
        "a attempt 1 POST", "b attempt 1 POST", "a answer OSError", "b answer OSError",
        "a attempt 2 POST", "b attempt 2 POST", "a answer 503", "b answer 503",
        "a attempt 3 POST", "b attempt 3 POST", "a answer 200", "b answer 200",
        "a ended NoneType", "b ended NoneType",
    ]  # fmt: skip
    assert recorder.requests[2].headers["x-b"] == "3"


def test_pauses_pass_through(calls: Any, recorder: Any, example: Callable[[str], bytes]) -> None:
    """A pause is the driver's affair, with hooks as without."""
    recorder.give(503, retry_after="0.001").give(200, example("execute.response.success"))
    heard: list[str] = []
    client = calls.client(hooks=[Diary("a", heard)], retry_waits=True)
    assert calls("execute", TASK, 1, client=client).reply.paused > 0
    assert [line for line in heard if "attempt" in line] == ["a attempt 1 POST", "a attempt 2 POST"]


def test_what_a_call_is(calls: Any, recorder: Any, example: Callable[[str], bytes]) -> None:
    """Operation, method, path, task, version, items and attempts; no key."""
    recorder.give(200, example("batch.execute.response.success"))
    diary = Diary("a", [])
    client = calls.client(hooks=[diary], api_key="s3cr3t")
    items = [{"id": name, "input": 1} for name in "ab"]
    calls("batch_execute_advanced", task_id=TASK, items=items, version=2, client=client)
    assert diary.calls == [CallInfo("batch_execute", "POST", "/api/v1/batch/execute", TASK, 2, 2, 1)]
    assert "s3cr3t" not in repr(diary.calls)


def test_errors_are_heard(calls: Any, recorder: Any) -> None:
    """What the call raises, the hooks hear; then it is raised."""
    heard: list[str] = []
    recorder.give(404)
    with pytest.raises(NotFoundException):
        calls("get_task", TASK, client=calls.client(hooks=[Diary("a", heard)]))
    assert heard[-1] == "a ended NotFoundException"


@pytest.mark.parametrize(
    ("where", "heard_after"),
    [
        ("started", ["a ended KeyError"]),
        ("attempt", ["a ended KeyError", "b ended KeyError", "c ended KeyError"]),
        ("answer", ["a ended KeyError", "b ended KeyError", "c ended KeyError"]),
        ("ended", ["a ended NotFoundException", "b ended NotFoundException", "c ended NotFoundException"]),
    ],
)
def test_a_hook_that_raises_ends_the_call(calls: Any, recorder: Any, where: str, heard_after: list[str]) -> None:
    """All hooks that heard the call begin hear it end."""
    heard: list[str] = []
    recorder.give(404)
    client = calls.client(hooks=[Diary("a", heard), Diary("b", heard, raises=where), Diary("c", heard)])
    with pytest.raises(KeyError, match=where):
        calls("get_task", TASK, client=client)
    assert [line for line in heard if "ended" in line] == heard_after
    assert len(recorder.requests) == (where in {"answer", "ended"})


class BatchDiary(Diary):
    """Hears of batches alone."""

    def batch_started(self, batch: CallInfo) -> Hooks:
        self._note("batch started")
        return Hooks()

    def batch_ended(self, batch: CallInfo, error: Optional[BaseException]) -> None:
        self._note(f"batch ended {type(error).__name__}")


@pytest.mark.parametrize(
    ("where", "heard_after"),
    [
        ("batch started", ["a batch ended KeyError"]),
        ("batch ended", ["a batch ended NoneType", "b batch ended NoneType", "c batch ended NoneType"]),
    ],
)
def test_a_hook_that_raises_ends_the_batch(where: str, heard_after: list[str]) -> None:
    """All hooks that heard the batch begin hear it end."""
    heard: list[str] = []
    hooks = [BatchDiary("a", heard), BatchDiary("b", heard, raises=where), BatchDiary("c", heard)]
    fake = FakeLoopai()
    fake.task("echo").computes(lambda given: given)
    with pytest.raises(KeyError, match=where):
        list(fake.client(hooks=hooks).batch_stream("echo", [1]))
    assert [line for line in heard if "ended" in line] == heard_after


async def test_a_cancelled_call_is_heard() -> None:
    """Its attempt has no answer; its end is told."""
    entered = asyncio.Event()

    class Hanging:
        async def asend(self, request: Request) -> Answer:
            entered.set()
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

        async def aclose(self) -> None:
            """Hold nothing."""

    heard: list[str] = []
    client = LoopaiClient("http://loopai.test", transport=Hanging(), hooks=[Diary("a", heard)])
    task = asyncio.ensure_future(client.get_task(TASK))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard == ["a started get_task 0", "a attempt 1 GET", "a ended GeneratorExit"]


def test_a_transport_that_raises_is_heard(calls: Any, recorder: Any) -> None:
    """A fault of the driver ends the call for its hooks too."""
    heard: list[str] = []
    with pytest.raises(IndexError):  # nothing to answer with
        calls("get_task", TASK, client=calls.client(hooks=[Diary("a", heard)]))
    assert heard[-1] == "a ended GeneratorExit"


def test_hooks_hear_nothing_by_default(calls: Any, recorder: Any, example: Callable[[str], bytes]) -> None:
    """The class itself is a hook that does nothing."""
    recorder.give(200, example("health.response"))
    assert calls("get_health", client=calls.client(hooks=[Hooks()])).status == "healthy"


@pytest.mark.parametrize("client", [LoopaiClient, SyncLoopaiClient])
@pytest.mark.parametrize("hooks", [5, Hooks(), [5], [Hooks], [None]], ids=["number", "one", "numbers", "class", "none"])
def test_what_are_no_hooks_is_refused(client: Any, hooks: Any) -> None:
    """When the client is made; one alone may be passed as it is."""
    if isinstance(hooks, Hooks):
        assert client("http://loopai.test", hooks=hooks).hooks == (hooks,)
        return
    with pytest.raises(ConfigurationError, match="hooks must be a list"):
        client("http://loopai.test", hooks=hooks)
