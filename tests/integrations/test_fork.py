"""A client that was used before a fork, as a preloading web server or a task queue does it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import traceback
from typing import Any, Callable

import pytest

from loopai import LoopaiClient, SyncLoopaiClient
from loopai._core.flow import Policy
from loopai.testing import FakeLoopai

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    # The test's server runs on a thread; Python 3.12 warns of forking then, which is just what is tested.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

HTTPX_ONLY = ("httpx", "httpx2")


def in_child(work: Callable[[], Any]) -> Callable[[], Any]:
    """Fork, run `work` in the child, and give back a function that waits for what it returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            signal.alarm(60)  # a child that hangs ends, and fails its test
            with os.fdopen(writing, "w") as pipe:
                json.dump(work(), pipe)
            status = 0
        except BaseException:  # noqa: BLE001  # a child must not come back into pytest, whatever happens
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)

    def wait() -> Any:
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        assert os.waitpid(child, 0)[1] == 0, f"the child failed: {text}"
        return json.loads(text)

    return wait


def test_children_name_their_calls_with_keys_of_their_own() -> None:
    """A server that honours the key would give one process the other's result; a seed of the program's is no matter."""
    policy = Policy("http://loopai.test", {})

    def keys() -> list[str]:
        random.seed(1)
        return [policy.new_key() for _ in range(3)]

    keys()
    children = [in_child(keys) for _ in range(2)]
    found = [*keys(), *keys(), *(key for wait in children for key in wait())]
    assert len(set(found)) == 12


@pytest.mark.parametrize("transport_name", HTTPX_ONLY)
def test_children_use_a_warmed_client_of_their_parent(server: Any, transport_name: str, task: str) -> None:
    """4 children with 200 calls each on their parent's client get each their own replies, and so does the parent."""
    pytest.importorskip(transport_name)
    with SyncLoopaiClient(server.url, transport=transport_name, max_retries=0) as client:

        def calls(name: str) -> list[Any]:
            return [client.execute(task, [name, turn]).output for turn in range(200)]

        calls("warm")
        children = [in_child(lambda child=child: calls(f"child {child}")) for child in range(4)]
        assert calls("parent") == [["parent", turn] for turn in range(200)]
        for child, wait in enumerate(children):
            assert wait() == [[f"child {child}", turn] for turn in range(200)]
        assert client.execute(task, "after").output == "after"
    assert server.accepted == 5


@pytest.mark.slow
@pytest.mark.parametrize("transport_name", HTTPX_ONLY)
def test_children_use_a_warmed_async_client_of_their_parent(server: Any, transport_name: str, task: str) -> None:
    """The same for `LoopaiClient`, warmed in a loop that is still there when the process forks."""
    pytest.importorskip(transport_name)
    client = LoopaiClient(server.url, transport=transport_name, max_retries=0)

    async def calls(name: str) -> list[Any]:
        results = await asyncio.gather(*(client.execute(task, [name, turn]) for turn in range(200)))
        return [result.output for result in results]

    loop = asyncio.new_event_loop()
    loop.run_until_complete(calls("warm"))
    children = [in_child(lambda child=child: asyncio.run(calls(f"child {child}"))) for child in range(4)]
    assert loop.run_until_complete(calls("parent")) == [["parent", turn] for turn in range(200)]
    for child, wait in enumerate(children):
        assert wait() == [[f"child {child}", turn] for turn in range(200)]
    loop.run_until_complete(client.close())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def test_a_child_runs_a_batch_after_its_parent() -> None:
    """Threads kept for later runs do not survive a fork: the child starts its own."""
    fake = FakeLoopai()
    fake.task("echo").computes(lambda given: given)
    with fake.client() as client:

        def work() -> list[Any]:
            return [outcome.output for outcome in client.batch_stream("echo", [1, 2, 3])]

        assert work() == [1, 2, 3]
        wait = in_child(work)
        assert wait() == work() == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("transport_name", HTTPX_ONLY)
def test_a_fork_while_other_threads_call(server: Any, transport_name: str, task: str) -> None:
    """Whatever other threads hold in the moment of the fork, the child's client works and is bounded in time."""
    pytest.importorskip(transport_name)
    with SyncLoopaiClient(server.url, transport=transport_name, max_retries=0, max_connections=4) as client:
        stop = threading.Event()
        wrong: list[Any] = []

        def call(thread: int) -> None:
            turn = 0
            while not stop.is_set():
                turn += 1
                output = client.execute(task, [thread, turn]).output
                if output != [thread, turn]:
                    wrong.append(output)

        threads = [threading.Thread(target=call, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for child in range(10):
            wait = in_child(lambda child=child: [client.execute(task, [child, turn]).output for turn in range(20)])
            assert wait() == [[child, turn] for turn in range(20)]
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_child_is_cut_off_by_timeout_too(make_server: Any, task: str, body_of: Any) -> None:
    """The thread that cuts off dripping replies does not survive a fork: the child starts its own."""
    from loopai import TimeoutException

    async def behaviour(asked: Any, wire: Any) -> None:
        if asked.input == "drip":
            await wire.drip(b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 500)
        else:
            await wire.answer(body_of(asked.input))

    with SyncLoopaiClient(make_server(behaviour).url, timeout=0.4, max_retries=0) as client:
        client.execute(task, "warm")

        def work() -> str:
            with pytest.raises(TimeoutException) as caught:
                client.execute(task, "drip")
            return type(caught.value).__name__

        assert in_child(work)() == "TimeoutException"


PYREQWEST = """
import asyncio, os, signal, sys, time
from loopai import ConfigurationError, LoopaiClient, SyncLoopaiClient

base_url, task, first = sys.argv[1:]
sync = SyncLoopaiClient(base_url, transport="pyreqwest", timeout=5)
asynchronous = LoopaiClient(base_url, transport="pyreqwest", timeout=5)
if first == "parent":
    sync.execute(task, 0)
    asyncio.run(asynchronous.execute(task, 0))
for call in (
    lambda: sync.execute(task, 1),
    lambda: asyncio.run(asynchronous.execute(task, 1)),
    lambda: SyncLoopaiClient(base_url, transport="pyreqwest").execute(task, 1),
):
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a child that hangs ends, and says nothing
        try:
            print(call().output, flush=True)
        except ConfigurationError as error:
            print(error, flush=True)
        sys.exit()  # and not os._exit: the interpreter goes down with what it inherited
    assert os.waitpid(child, 0)[1] == 0
if first == "parent":
    print(sync.execute(task, 2).output)
"""


@pytest.mark.parametrize("first", ["parent", "child"])
def test_pyreqwest_after_a_fork_says_what_to_do(server: Any, task: str, first: str) -> None:
    """Used by the parent, pyreqwest cannot be used in its children, who say so at once; not used before, it can."""
    pytest.importorskip("pyreqwest")
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PYREQWEST, server.url, task, first]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    if first == "child":
        assert said == ["1", "1", "1"]
    else:
        assert said.pop() == "2"
        assert len(said) == 3
        for each in said:
            assert "before this process was forked" in each
            assert "send the first request after the fork" in each
            assert "transport='httpx'" in each
