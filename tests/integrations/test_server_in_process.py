"""`LoopaiClient.local()`: the embedded server in the client's own process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the embedded server needs Python 3.10", allow_module_level=True)

from loopai import LoopaiClient, SyncLoopaiClient
from loopai.exceptions import ConfigurationError, ConnectionException, TimeoutException
from loopai.local import open_transport

ECHO = "def main(input):\n    return input\n"
LOOP = "def main(input):\n    while True:\n        pass\n"


def servers() -> int:
    return sum(thread.name == "loopai-local" for thread in threading.enumerate())


def task_of(client: SyncLoopaiClient, name: str = "t", code: str = ECHO) -> Any:
    task = client.create_task(name, "d", {}, {})
    client.push_program(task.id, code)
    return task


def test_nothing_runs_before_the_first_request_nor_after_the_last_client() -> None:
    """The server's thread comes with the first call and goes with `close`; so does its folder."""
    client = SyncLoopaiClient.local()
    assert servers() == 0
    assert client.execute(task_of(client).id, [1]).output == [1]
    assert servers() == 1
    client.close()
    client.close()
    assert servers() == 0


def test_clients_of_a_folder_share_its_server(tmp_path: Path) -> None:
    """What one makes the other sees; the server ends with the last; data outlive it."""
    with SyncLoopaiClient.local(tmp_path) as first:
        task = task_of(first)
        with SyncLoopaiClient.local(str(tmp_path)) as second:
            assert second.execute(task.id, "a").output == "a"
            assert servers() == 1
        assert first.execute(task.id, "b").output == "b"
    assert servers() == 0
    with SyncLoopaiClient.local(tmp_path) as later:
        assert later.get_task_by_name("t").id == task.id


def test_private_servers_know_nothing_of_each_other() -> None:
    """Without a folder each client has data of its own."""
    with SyncLoopaiClient.local() as first, SyncLoopaiClient.local() as second:
        task_of(first)
        assert second.list_tasks() == []
        assert servers() == 2


def test_one_client_in_many_threads() -> None:
    """Calls from any thread get their own answers."""
    with SyncLoopaiClient.local() as client:
        task = task_of(client)
        wrong: list[int] = []

        def work(start: int) -> None:
            wrong.extend(at for at in range(start, start + 20) if client.execute(task.id, at).output != at)

        threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 160, 20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_one_client_in_many_event_loops(tmp_path: Path) -> None:
    """An asynchronous client outlives the loop it was first used in."""
    client = LoopaiClient.local(tmp_path)
    with SyncLoopaiClient.local(tmp_path) as sync:
        task = task_of(sync)

        async def run(value: int) -> Any:
            results = await asyncio.gather(*(client.execute(task.id, value) for _ in range(3)))
            return [result.output for result in results]

        for value in range(5):
            assert asyncio.run(run(value)) == [value] * 3
    assert servers() == 1
    asyncio.run(client.close())
    assert servers() == 0


def test_a_timeout_bounds_the_call_as_a_whole() -> None:
    """Synchronous and asynchronous; the server goes on for others."""
    with SyncLoopaiClient.local(max_retries=0) as client:
        slow, quick = task_of(client, "slow", LOOP), task_of(client, "quick")
        with pytest.raises(TimeoutException, match=r"timeout of 0\.2 s"):
            client.with_options(timeout=0.2).execute(slow.id, 1, timeout_ms=2000)
        assert client.execute(quick.id, 1).output == 1


async def test_a_timeout_bounds_an_asynchronous_call(tmp_path: Path) -> None:
    """As it does a synchronous one."""
    async with LoopaiClient.local(tmp_path, max_retries=0) as client:
        task = await client.create_task("slow", "d", {}, {})
        await client.push_program(task.id, LOOP)
        with pytest.raises(TimeoutException, match=r"timeout of 0\.3 s"):
            await client.with_options(timeout=0.3).execute(task.id, 1, timeout_ms=2000)


async def test_a_cancelled_call_leaves_the_server_well() -> None:
    """Cancelling ends the wait at once and only this one."""
    async with LoopaiClient.local() as client:
        task = await client.create_task("slow", "d", {}, {})
        await client.push_program(task.id, LOOP)
        calls = [asyncio.ensure_future(client.execute(task.id, 1, timeout_ms=1000)) for _ in range(3)]
        await asyncio.wait(calls, timeout=0.2)
        for call in calls:
            call.cancel()
        assert await asyncio.gather(*calls, return_exceptions=True)
        assert all(call.cancelled() for call in calls)
        assert (await client.get_live()).status == "alive"


async def test_closing_ends_calls_under_way() -> None:
    """They raise instead of hanging."""
    client = LoopaiClient.local(max_retries=0)
    task = await client.create_task("slow", "d", {}, {})
    await client.push_program(task.id, LOOP)
    call = asyncio.ensure_future(client.execute(task.id, 1, timeout_ms=60_000))
    await asyncio.wait([call], timeout=0.3)
    await client.close()
    with pytest.raises(ConnectionException):
        await call


def test_a_folder_that_cannot_be_used_is_a_wrong_setting(tmp_path: Path) -> None:
    """The error names the folder, and comes again with the next call."""
    taken = tmp_path / "file"
    taken.write_text("not a folder")
    with SyncLoopaiClient.local(taken) as client:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="file"):
                client.list_tasks()


def test_a_base_url_with_a_path_does_not_matter() -> None:
    """What is configured for a server elsewhere does not break the one in process."""
    with SyncLoopaiClient.local(base_url="https://loopai.example.test/prefix") as client:
        assert client.execute(task_of(client).id, 1).output == 1
        assert client.get_plain_health().status == "healthy"
        assert client.list_tasks()[0].name == "t"


def test_a_closed_transport_says_so() -> None:
    """Used after closing, it raises instead of starting a server that nobody would end."""
    client = SyncLoopaiClient.local()
    copy = client.with_options(timeout=5)
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        copy.list_tasks()
    assert servers() == 0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX's")
def test_a_forked_child_gets_a_server_of_its_own(tmp_path: Path) -> None:
    """A warmed client works in the parent and in its children on the same data, with a private folder too."""
    script = """
import os, sys
from loopai import SyncLoopaiClient
with SyncLoopaiClient.local(sys.argv[1] if len(sys.argv) > 1 else None) as client:
    task = client.create_task("t", "d", {}, {})
    client.push_program(task.id, "def main(input):\\n    return input")
    assert client.execute(task.id, 0).output == 0
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            good = all(client.execute(task.id, [number, at]).output == [number, at] for at in range(20))
            client.close()
            os._exit(0 if good else 1)
        children.append(child)
    assert all(client.execute(task.id, at).output == at for at in range(20))
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert client.execute(task.id, 9).output == 9
print("good")
"""
    for folder in ([str(tmp_path)], []):
        options = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
        done = subprocess.run(
            [sys.executable, *options, "-c", script, *folder], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "good\n", "")


def test_a_client_that_nobody_closed_ends_with_the_interpreter() -> None:
    """No hang, no traceback, no folder left."""
    script = """
import os, tempfile
from loopai import SyncLoopaiClient
client = SyncLoopaiClient.local()
assert client.list_tasks() == []
print([name for name in os.listdir(tempfile.gettempdir()) if name.startswith("loopai-")])
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_the_package_is_cheap() -> None:
    """Neither importing `loopai.local` nor making a client loads the server."""
    script = """
import sys
import loopai.local
from loopai import SyncLoopaiClient
SyncLoopaiClient.local().close()
heavy = {"fastapi", "starlette", "sqlalchemy", "sklearn", "uvicorn", "jsonschema_rs", "prometheus_client"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_a_missing_library_is_named_with_its_installation() -> None:
    """`LoopaiClient.local()` says at once what to install, by the library's own name."""
    script = """
import sys
sys.modules["jsonschema_rs"] = sys.modules["sqlalchemy"] = None
from loopai import ConfigurationError, SyncLoopaiClient
try:
    SyncLoopaiClient.local()
except ConfigurationError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "pip install jsonschema-rs sqlalchemy" in done.stdout


def test_open_transport_serves_both_clients(tmp_path: Path) -> None:
    """One transport has the faces of the synchronous and the asynchronous seam."""
    transport = open_transport(str(tmp_path))
    with SyncLoopaiClient(transport=transport) as client:
        assert client.list_tasks() == []
    transport.close()
