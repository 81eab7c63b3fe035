"""The embedded server as a process: what it acknowledged survives it, it shares its folder, it ends clean."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

if sys.version_info < (3, 10):
    pytest.skip("the embedded server needs Python 3.10", allow_module_level=True)

from loopai import SyncLoopaiClient, local
from loopai.exceptions import ConfigurationError, ConflictException, ConnectionException, LoopaiException

pytestmark = pytest.mark.slow

ECHO = "def main(input):\n    return input\n"
SERVE = """
import sys
from loopai.local import serve
serve(port=0, data=sys.argv[1] if len(sys.argv) > 1 else None, on_bound=lambda url: print(url, flush=True))
"""


class Process:
    """A server in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SERVE, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.base_url = self.process.stdout.readline().strip()

    def end(self, by: signal.Signals) -> str:
        """End it and give back what it logged."""
        self.process.send_signal(by)
        return self.process.communicate(timeout=30)[1]


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def make(*arguments: str) -> Process:
        process = Process(*arguments)
        started.append(process)
        return process

    yield make
    for process in started:
        process.process.kill()
        process.process.communicate()


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(start: Callable[..., Process], tmp_path: Path) -> None:
    """Tasks and executions answered before `kill -9`, from several threads, are there in the next server."""
    server = start(str(tmp_path))
    tasks: list[str] = []
    executions: list[str] = []
    enough = threading.Event()

    with SyncLoopaiClient(server.base_url, max_retries=0, raise_on_error=False) as client:
        echo = client.create_task("echo", "d", {}, {})
        client.push_program(echo.id, ECHO)

        def work(number: int) -> None:
            try:
                for at in range(10_000):
                    tasks.append(str(client.create_task(f"task-{number}-{at}", "d", {}, {}).id))
                    executions.append(str(client.execute(echo.id, at).execution_id))
                    if len(executions) > 60:
                        enough.set()
            except (ConnectionException, LoopaiException):
                return

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        assert enough.wait(30)
        server.process.kill()
        for thread in threads:
            thread.join()

    with SyncLoopaiClient.local(tmp_path) as client:
        kept = {str(task.id) for task in client.list_tasks()}
        assert len(tasks) > 60
        assert set(tasks) <= kept
    with closing(sqlite3.connect(tmp_path / "loopai.db")) as database:
        recorded = {row[0] for row in database.execute("SELECT id FROM executions")}
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert set(executions) <= recorded


def test_several_processes_share_a_folder(start: Callable[..., Process], tmp_path: Path) -> None:
    """What one makes the others run at once; a name is taken for all; versions never collide."""
    servers = [start(str(tmp_path)) for _ in range(2)]
    with SyncLoopaiClient(servers[0].base_url) as first, SyncLoopaiClient(servers[1].base_url) as second:
        task = first.create_task("t", "d", {}, {})
        with pytest.raises(ConflictException):
            second.create_task("t", "d", {}, {})
        first.push_program(task.id, "def main(input):\n    return 1")
        assert second.execute(task.id, None).output == 1
        assert first.execute(task.id, None).output == 1
        second.push_program(task.id, "def main(input):\n    return 2")
        assert first.execute(task.id, None).output == 2
        assert first.get_task(task.id).active_version == 2

        def push(client: SyncLoopaiClient) -> None:
            for _ in range(5):
                client.push_program(task.id, ECHO)

        threads = [threading.Thread(target=push, args=(client,)) for client in (first, second, first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [artifact.version for artifact in first.list_artifacts(task.id)] == list(range(1, 23))


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_and_its_workers(start: Callable[..., Process], by: signal.Signals) -> None:
    """No worker, no private folder and no traceback is left."""
    server = start()
    with SyncLoopaiClient(server.base_url) as client:
        task = client.create_task("t", "d", {}, {})
        client.push_program(task.id, ECHO)
        assert client.execute(task.id, 1).output == 1
        process = psutil.Process(server.process.pid)
        children = process.children(recursive=True)
        folders = {Path(file.path).parent for file in process.open_files() if file.path.endswith(".db")}
        assert children
        assert len(folders) == 1
        log = server.end(by)
    gone, alive = psutil.wait_procs(children, timeout=5)
    assert (len(gone), alive) == (len(children), [])
    assert not folders.pop().exists()
    assert "Application shutdown complete" in log
    assert "Error" not in log
    assert "Warning" not in log


def test_a_server_in_a_thread_for_the_length_of_a_block() -> None:
    """`running` gives an address that answers, and afterwards nothing is left."""
    before = threading.active_count()
    with local.running(api_key="k") as server, SyncLoopaiClient(server.base_url, "k") as client:
        assert client.get_health().status == "healthy"
        assert client.list_tasks() == []
    assert threading.active_count() == before
    with SyncLoopaiClient(server.base_url, "k", max_retries=0) as client, pytest.raises(ConnectionException):
        client.get_health()


def test_settings_that_cannot_work_are_named(tmp_path: Path) -> None:
    """Before anything listens."""
    taken = tmp_path / "file"
    taken.write_text("not a folder")
    with pytest.raises(ConfigurationError, match="data folder"):
        local.serve(port=0, data=str(taken))
    with pytest.raises(ConfigurationError, match="api_key"):
        local.serve(port=0, api_key=" ")
    with pytest.raises(ConfigurationError, match="rate_limit"):
        local.serve(port=0, rate_limit=0)
    with local.running() as server, pytest.raises(OSError, match="in use"):
        local.serve(port=int(server.base_url.rpartition(":")[2]))


def test_a_folder_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """Rather than read wrongly."""
    with SyncLoopaiClient.local(tmp_path) as client:
        client.list_tasks()
    with closing(sqlite3.connect(tmp_path / "loopai.db")) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigurationError, match="newer loopai"):
        local.serve(port=0, data=str(tmp_path))


def test_small_requests_are_not_held_back(start: Callable[..., Process]) -> None:
    """Replies leave at once: a connection that waits for acknowledgements takes 40 ms for each."""
    server = start()
    with SyncLoopaiClient(server.base_url) as client:
        client.get_live()
        fastest = min(client.get_live().reply.elapsed for _ in range(20))  # type: ignore[union-attr]  # set by the call
    assert fastest < 0.03
