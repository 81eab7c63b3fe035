"""What one call may say for itself, keys that are asked for, the client's own rate limit, and hooks of retries."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from typing import Any, Callable

import pytest
from pydantic import BaseModel, SecretStr

from loopai import Hooks, LoopaiClient, SyncLoopaiClient
from loopai._core.paces import Pace
from loopai.exceptions import (
    AuthenticationException,
    ConfigurationError,
    RateLimitException,
    ServerException,
    TimeoutException,
)
from loopai.testing import FakeLoopai

TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"


def test_options_of_one_call(calls: Any, recorder: Any, example: Callable[[str], bytes]) -> None:
    """Its time limit, headers besides the client's own, and the key under which it runs once."""
    recorder.give(200, example("execute.response.success"))
    client = calls.client(headers={"X-Team": "mail", "X-Kept": "1"}, timeout=30)
    options = {"timeout": 2, "extra_headers": {"x-team": "ops", "X-More": "2"}, "idempotency_key": "mine"}
    calls("execute", TASK, 1, client=client, **options)
    (request,) = recorder.requests
    assert request.timeout == 2
    assert request.headers["idempotency-key"] == "mine"
    assert {name: request.headers[name] for name in ("x-team", "x-more", "x-kept")} == {
        "x-team": "ops", "x-more": "2", "x-kept": "1",
    }  # fmt: skip
    calls("execute", TASK, 1, client=client)
    assert (recorder.requests[1].timeout, recorder.requests[1].headers["x-team"]) == (30, "mail")
    assert recorder.requests[1].headers["idempotency-key"] != "mine"


@pytest.mark.parametrize(
    "options", [{"time_out": 1}, {"timeout": -1}, {"extra_headers": {"a b": "c"}}, {"idempotency_key": "a\n"}]
)
def test_wrong_options_of_a_call(calls: Any, recorder: Any, options: Any) -> None:
    """They are refused before anything is sent."""
    with pytest.raises(ConfigurationError):
        calls("get_health", **options)
    assert recorder.requests == []


def test_every_method_that_sends_takes_them() -> None:
    """Whoever adds one gets to know of it here."""
    without = {"close", "bind", "local", "with_options", "batch_stream", "run_batch", "load_program"}
    for kind in (LoopaiClient, SyncLoopaiClient):
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_") and name not in without:
                assert "options" in inspect.signature(method).parameters, name


async def test_a_call_with_options_of_its_own_joins_no_group(recorder: Any, example: Callable[[str], bytes]) -> None:
    """It travels alone, the others together."""
    recorder.give(200, example("execute.response.success"))
    client = LoopaiClient("http://x.test", transport=recorder, coalesce=True)
    await asyncio.gather(client.execute(TASK, 1, idempotency_key="mine"), client.execute(TASK, 2))
    assert sorted(request.headers["idempotency-key"] == "mine" for request in recorder.requests) == [False, True]


def test_headers_of_a_copy_are_merged(calls: Any) -> None:
    """Those of the client stay, whatever the case of their names."""
    client = calls.client(headers={"X-A": "1", "X-B": "2"}).with_options(headers={"x-b": "3", "X-C": "4"})
    assert client.config.headers == {"X-A": "1", "x-b": "3", "X-C": "4"}


def test_a_key_is_asked_for_at_each_attempt(calls: Any, recorder: Any) -> None:
    """It is in the header, and nowhere else; the string and the secret alike."""
    given = iter(["first-key", SecretStr("second-key"), None])
    for key in ("first-key", "second-key", "none"):
        recorder.give(503, {"message": f"no entry with {key}"})
    client = calls.client(api_key=lambda: next(given), max_retries=2)
    with pytest.raises(ServerException) as raised:
        calls("get_health", client=client)
    assert len(recorder.requests) == 3
    assert "api_key=set" in repr(client)
    recorder.requests.clear()
    recorder.answers.clear()
    recorder.give(401, {"message": "no entry with other-key"})
    client = calls.client(api_key=lambda: "other-key")
    with pytest.raises(AuthenticationException) as raised:
        calls("get_health", client=client)
    assert recorder.requests[0].headers["authorization"] == "Bearer other-key"
    assert "other-key" not in f"{raised.value!r}{client!r}{client.config!r}{recorder.requests[0]!r}"


@pytest.mark.parametrize("key", ["key", lambda: "key"], ids=["text", "function"])
def test_a_header_of_ones_own_is_sent_instead_of_the_key(
    calls: Any, recorder: Any, example: Callable[[str], bytes], key: Any
) -> None:
    """For one call, or for all of a client."""
    for _ in range(3):
        recorder.give(200, example("execute.response.success"))
    client = calls.client(api_key=key)
    calls("execute", TASK, 1, client=client, extra_headers={"AUTHORIZATION": "mine"})
    calls("execute", TASK, 1, client=client)
    calls("execute", TASK, 1, client=client.with_options(headers={"Authorization": "ours"}))
    assert [request.headers["authorization"] for request in recorder.requests] == ["mine", "Bearer key", "ours"]


async def test_a_key_that_is_waited_for(recorder: Any, example: Callable[[str], bytes]) -> None:
    """By the asynchronous client; the synchronous one says that it cannot."""

    async def key() -> str:
        await asyncio.sleep(0)
        return "k"

    recorder.give(200, example("health.response"))
    await LoopaiClient("http://x.test", key, transport=recorder).get_health()
    assert recorder.requests[0].headers["authorization"] == "Bearer k"
    with pytest.raises(ConfigurationError, match="cannot await a coroutine"):
        SyncLoopaiClient("http://x.test", key, transport=recorder).get_health()


@pytest.mark.parametrize("key", ["", "é", 5])
def test_what_is_no_key_is_refused(calls: Any, recorder: Any, key: Any) -> None:
    """Its text is not shown."""
    with pytest.raises(ConfigurationError, match="api_key: the function must return"):
        calls("get_health", client=calls.client(api_key=lambda: key))


def test_never_more_in_any_period() -> None:
    """Turns are taken in advance, and no window of the period holds more than the limit."""
    pace = Pace(3, 60.0)
    now = 1000.0
    turns = []
    for _ in range(9):
        turns.append(now + pace.take(now))
        now += 1.0
    assert turns[:3] == [1000.0, 1001.0, 1002.0]
    for place in range(len(turns) - 3):
        assert turns[place + 3] - turns[place] >= 60.0
    assert pace.wait(10_000.0) == 0.0


def test_a_client_keeps_its_rate_limit(calls: Any, recorder: Any, example: Callable[[str], bytes]) -> None:
    """By server and key, over all clients of the process; what the deadline leaves no time for is told at once."""
    recorder.give(200, example("health.response"))
    options = {"rate_limit": "2/hour", "deadline": 5, "api_key": os.urandom(4).hex()}
    calls("get_health", client=calls.client(**options))
    calls("get_health", client=calls.client(**options))
    with pytest.raises(TimeoutException, match="deadline"):
        calls("get_health", client=calls.client(**options))
    assert len(recorder.requests) == 2
    calls("get_health", client=calls.client(**{**options, "api_key": "another"}))


def test_a_batch_keeps_the_rate_limit() -> None:
    """Its requests wait for their turns, and a run that is given up waits for none."""
    fake = FakeLoopai()
    fake.task("echo").computes(lambda given: given)
    client = fake.client(rate_limit="3/hour", api_key=os.urandom(4).hex())  # one of them for the artifacts
    outcomes = client.batch_stream("echo", [1, 2, 3, 4], chunk_size=1)
    assert [next(outcomes).status for _ in range(2)] == ["ok", "ok"]
    assert len(fake.requests) == 3
    outcomes.close()


class Listening(Hooks):
    def __init__(self, waits: bool) -> None:
        self.waits = waits
        self.heard: list[tuple[int, float, str]] = []

    def retry_scheduled(self, call: Any, pause: float, error: Exception) -> Any:
        async def later() -> None:
            await asyncio.sleep(0)
            self.heard.append((call.attempts, pause, type(error).__name__))

        if self.waits:
            return later()
        self.heard.append((call.attempts, pause, type(error).__name__))
        return None


@pytest.mark.parametrize("waits", [True, False])
def test_hooks_hear_of_retries(calls: Any, recorder: Any, waits: bool) -> None:
    """Before the pause, with its length and the reason; what they give is awaited where it can be."""
    if waits and calls.kind == "sync":
        pytest.skip("nothing is awaited there")
    recorder.give(429, {"message": "slow down"}, retry_after="7")
    hook = Listening(waits)
    client = calls.client(hooks=[hook], max_retries=2)
    with pytest.raises(RateLimitException):
        calls("get_health", client=client)
    assert hook.heard == [(1, 0.0, "RateLimitException"), (2, 0.0, "RateLimitException")]


def test_what_lets_others_read_the_key_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """TLS that is not verified, and a key over plain http to another host."""
    with caplog.at_level(logging.WARNING, "loopai"):
        for _ in range(2):
            SyncLoopaiClient("http://once.example.test", "k")
            SyncLoopaiClient("https://once.example.test", verify=False)
            SyncLoopaiClient("http://localhost:1", "k")
            SyncLoopaiClient("http://127.0.0.1:1", "k")
            SyncLoopaiClient("http://second.example.test")
    assert len(caplog.messages) == 2
    assert any("plain http" in message for message in caplog.messages)
    assert any("verify=False" in message for message in caplog.messages)


class Mail(BaseModel):
    text: str


def test_a_bound_task_is_a_function_to_whatever_looks(
    calls: Any, recorder: Any, example: Callable[[str], bytes]
) -> None:
    """Name, docstring, signature and annotations are the task's; it is a coroutine function where it is one."""
    recorder.give(200, example("execute.response.success"))
    client = calls.client(tasks={"Spam Filter": TASK})
    bound = client.bind("Spam Filter", input=Mail, output=Any)
    for tool in (bound, bound.function):
        assert tool.__name__ == "spam_filter"
        assert "Spam Filter" in inspect.getdoc(tool)
        assert str(inspect.signature(tool)).startswith("(value: ")
        assert tool.__annotations__ == {"value": Mail, "return": Any}
        calls.run(tool(Mail(text="x")))
    assert inspect.isfunction(bound.function)
    assert inspect.iscoroutinefunction(bound.function) == (calls.kind == "async")
    if hasattr(inspect, "markcoroutinefunction"):
        assert inspect.iscoroutinefunction(bound) == (calls.kind == "async")
    assert client.bind(TASK, input=Mail, output=Any).__name__ == "spam_filter"
    assert client.bind("007", input=Mail, output=Any).__name__ == "task_007"
    assert [request.url.endswith("/execute") for request in recorder.requests] == [True, True]
