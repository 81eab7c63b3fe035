"""The seam that unit tests play on: a transport that records, a call driven by hand, and the contract's examples."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Callable, Union

import pytest

from loopai import LoopaiClient, SyncLoopaiClient
from loopai._core.flow import Policy, Sleep, call
from loopai._core.operations import Operation
from loopai._core.wire import Answer, Headers, NoReply, Reply, Request

EXAMPLES = Path(__file__).parents[1] / "contract" / "examples"
BASE_URL = "http://loopai.test"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of whoever runs the tests decides their outcome."""
    import os

    for name in [name for name in os.environ if name.startswith("LOOPAI_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def example() -> Callable[[str], bytes]:
    """The bytes of an example file by its name without suffix."""

    def read(name: str) -> bytes:
        return (
            next(EXAMPLES.glob(f"{name}.*")).read_bytes() if "*" in name else (EXAMPLES / f"{name}.json").read_bytes()
        )

    return read


class Recorder:
    """A transport for both clients: keeps what was sent, gives back what it was told."""

    has_programs = True
    """No look-up before a first execution takes the first answer: those are tested on the stand-in and the fake."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: list[Answer] = []

    def give(self, status: int = 200, body: Any = None, **headers: str) -> Recorder:
        """Answer the next request so; the last answer serves all that follow. A body that is not bytes is JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers.append(Reply(status, {name.replace("_", "-"): text for name, text in headers.items()}, content))
        return self

    def fail(self, error: BaseException, arrived: bool = True) -> Recorder:
        """Answer the next request with word that no reply came."""
        self.answers.append(NoReply(error, arrived))
        return self

    def send(self, request: Request) -> Answer:
        self.requests.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def asend(self, request: Request) -> Answer:
        await asyncio.sleep(0)
        return self.send(request)

    def close(self) -> None:
        """Hold nothing."""

    async def aclose(self) -> None:
        """Hold nothing."""

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(request.content) if request.content else None for request in self.requests]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


class Calls:
    """One face for both clients: every method blocks."""

    def __init__(self, kind: str, recorder: Recorder) -> None:
        self.kind = kind
        self.recorder = recorder
        self.loop = asyncio.new_event_loop()

    def client(self, **options: Any) -> Any:
        options = {"base_url": BASE_URL, "retry_waits": False, "transport": self.recorder, **options}
        return SyncLoopaiClient(**options) if self.kind == "sync" else LoopaiClient(**options)

    def run(self, value: Any) -> Any:
        return self.loop.run_until_complete(value) if asyncio.iscoroutine(value) else value

    def __call__(self, name: str, *args: Any, client: Any = None, **options: Any) -> Any:
        return self.run(getattr(client or self.client(), name)(*args, **options))


@pytest.fixture(params=["sync", "async"])
def calls(request: pytest.FixtureRequest, recorder: Recorder) -> Iterator[Calls]:
    """Calls of the synchronous and of the asynchronous client, over `recorder`."""
    made = Calls(request.param, recorder)
    yield made
    made.loop.close()


class Played:
    """A call as it went: what it sent, where it paused, and what it gave or raised."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.pauses: list[float] = []
        self.now = 1000.0
        self.result: Any = None
        self.error: Any = None

    @property
    def elapsed(self) -> float:
        return self.now - 1000.0


Given = Union[Answer, tuple[float, Answer]]


def play_call(operation: Operation[Any], answers: Iterable[Given], **options: Any) -> Played:
    """Drive a call on a clock of its own; an answer may be `(seconds it takes, answer)`; the last one repeats."""
    played = Played()
    given = list(answers)
    settings: dict[str, Any] = {
        "base_url": BASE_URL,
        "headers": Headers(),
        "clock": lambda: played.now,
        "time_of_day": lambda: 1_700_000_000.0 + played.elapsed,
        "random": lambda: 0.0,
        **options,
    }
    flow = call(operation, Policy(**settings))
    answer = None
    try:
        while True:
            step = flow.send(answer)
            if isinstance(step, Sleep):
                played.pauses.append(step.seconds)
                played.now += step.seconds
                answer = None
                continue
            played.requests.append(step)
            assert len(played.requests) < 200, "the call does not end"
            next_one = given.pop(0) if len(given) > 1 else given[0]
            seconds, answer = next_one if isinstance(next_one, tuple) else (0.0, next_one)
            played.now += seconds
    except StopIteration as done:
        played.result = done.value
    except Exception as error:  # noqa: BLE001  # handed to the test, which says which it must be
        played.error = error
    return played


@pytest.fixture
def play() -> Callable[..., Played]:
    return play_call


_allowed = True


def _refuse_servers(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.bind" and not _allowed:
        raise AssertionError(f"a unit test starts no server: it binds {arguments[1]!r}; put it into tests/integrations")


sys.addaudithook(_refuse_servers)


@pytest.fixture(autouse=True)
def no_servers() -> Iterator[None]:
    """Fail a unit test of this process that starts a server."""
    global _allowed
    _allowed = False
    yield
    _allowed = True
