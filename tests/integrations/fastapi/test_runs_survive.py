"""Runs outlive the processes that carry them out: `uvicorn --workers 3`, killed, stopped and shut down."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional

import httpx
import psutil
import pytest

from loopai import SyncLoopaiClient, local

pytestmark = pytest.mark.slow
pytest.importorskip("pydantic_monty", reason="the embedded server runs programs")

PATIENCE = 60.0
# Seconds, on a machine that has a processor for who asks for one.
TAKEN_UP_WITHIN = 10.0
APPLICATION = """
import os
from fastapi import FastAPI, Header
from loopai.contrib.fastapi import LoopaiLifespan, LoopaiSettings, RunFolder, runs_router

folder = RunFolder("runs", max_runs=int(os.environ.get("MAX_RUNS", 2)), max_waiting_per_owner=50)
settings = LoopaiSettings(base_url=os.environ["SERVER"], close_grace=4, tasks={"twice": os.environ["TASK"]})
app = FastAPI(lifespan=LoopaiLifespan(settings))
app.include_router(
    runs_router("twice", folder, owner=None, mapping=["n=n"], chunk_size=20, max_in_flight=1, progress_every=0.05)
)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with local.running() as made, SyncLoopaiClient(made.base_url) as client:
        task = client.create_task("kills", "Doubles", {"type": "object"}, {"type": "object"})
        client.push_program(task.id, "def main(input):\n    return {'twice': input['n'] * 2}\n")
        yield {"SERVER": made.base_url, "TASK": str(task.id)}


class Site:
    """uvicorn with three workers."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], url: str) -> None:
        self.folder = folder
        self.process = process
        self.url = url

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def at_work(self, run: str) -> Optional[psutil.Process]:
        """The process that holds the run's lock."""
        lock = next((self.folder / "runs" / "runs").glob(f"*/{run}")) / "lock"
        for process in self.workers():
            with suppress(psutil.Error):
                if any(file.path == str(lock) for file in process.open_files()):
                    return process
        return None

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        """Ask until somebody answers: the connection may be to a process that is being killed."""
        until = time.monotonic() + PATIENCE
        while True:
            with suppress(httpx.TransportError):
                return httpx.request(method, self.url + path, timeout=10, **given)
            assert time.monotonic() < until

    def taken_from(self, run: str, holder: psutil.Process) -> bool:
        """Whether another process is at work."""
        found = self.at_work(run)
        return found is not None and found.pid != holder.pid

    def done_beyond(self, run: str, done: int) -> int:
        """How many rows are done, once it is more than that."""
        now: int = self.run(run)["done"]
        return now if now > done else 0

    def moved(self, run: str, done: int) -> Optional[dict[str, Any]]:
        """The run, once it is finished or more rows are done."""
        found = self.run(run)
        return found if found["state"] == "finished" or found["done"] > done else None

    def finished(self, run: str) -> dict[str, Any]:
        """The run at its end, which may be far away as long as it moves."""
        found = until(partial(self.moved, run, -1))
        while found["state"] != "finished":
            found = until(partial(self.moved, run, found["done"]))
        return found

    def run(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.request("GET", f"/runs/{run}").json()
        return found


@contextmanager
def site(
    tmp_path: Path, server: dict[str, str], application: str = APPLICATION, workers: int = 3, **environ: str
) -> Iterator[Site]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "served.py").write_text(application)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    command = [sys.executable, "-W", "ignore", "-m", "uvicorn", "served:app", "--port", str(port)]
    command += ["--workers", str(workers)]
    with open(tmp_path / "log", "ab") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **server, **environ, "PYTHONPATH": path}, cwd=tmp_path, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    made = Site(tmp_path, process, f"http://127.0.0.1:{port}")
    try:
        assert made.request("GET", "/runs").status_code == 200
        yield made
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


AFTERWARDS = """
import os
from fastapi import BackgroundTasks, FastAPI
from loopai.contrib.fastapi import LoopaiDep, LoopaiLifespan, LoopaiSettings

settings = LoopaiSettings(base_url=os.environ["SERVER"], tasks={"twice": os.environ["TASK"]})
app = FastAPI(lifespan=LoopaiLifespan(settings))

@app.get("/runs")
async def up(): ...

@app.post("/judge", status_code=202)
async def judge(tasks: BackgroundTasks, ai: LoopaiDep) -> None:
    tasks.add_task(ai.run_batch, "twice", "rows.jsonl", "out.jsonl", key="id", chunk_size=20, mode="continue")
"""


def until(what: Callable[[], Any], patience: float = PATIENCE) -> Any:
    end = time.monotonic() + patience
    while not (found := what()):
        assert time.monotonic() < end
        threading.Event().wait(0.02)
    return found


def crowd() -> float:
    """How many processes there are for each processor; 1 where there are fewer."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def more_lines(path: Path, lines: int) -> int:
    """How many lines a file has, once it has more."""
    now = path.read_bytes().count(b"\n")
    return now if now > lines else 0


def rows_of(number: int) -> bytes:
    return "".join(json.dumps({"id": f"k{n}", "n": n}) + "\n" for n in range(number)).encode()


def posted(site: Site, rows: int, **headers: str) -> str:
    reply = site.request("POST", "/runs?key=id&format=jsonl", content=rows_of(rows), headers=headers)
    assert reply.status_code == 202, reply.text
    found: str = reply.json()["id"]
    return found


class Reader:
    """Reads what is added to the output, and the events, through all that happens."""

    def __init__(self, site: Site, run: str) -> None:
        self.output = b""
        self.results: list[tuple[str, dict[str, Any]]] = []
        self.summary: Optional[dict[str, Any]] = None
        self._site, self._run = site, run
        self._over = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._read_output, self._read_events)]
        for thread in self._threads:
            thread.start()

    def _read_output(self) -> None:
        while not self._over.is_set():
            with suppress(httpx.TransportError):
                headers = {"Range": f"bytes={len(self.output)}-"}
                reply = httpx.get(f"{self._site.url}/runs/{self._run}/output", headers=headers, timeout=10)
                if reply.status_code == 206:
                    self.output += reply.content
            self._over.wait(0.05)

    def _read_events(self) -> None:
        last = ""
        while self.summary is None and not self._over.is_set():
            headers = {"Last-Event-ID": last} if last else {}
            url = f"{self._site.url}/runs/{self._run}/events"
            with suppress(httpx.TransportError), httpx.stream("GET", url, headers=headers, timeout=10) as reply:
                fields: dict[str, str] = {}
                for line in reply.iter_lines():
                    name, _, value = line.partition(": ")
                    if name:
                        fields[name] = value
                        continue
                    if fields.get("event") == "result":
                        self.results.append((fields["id"], json.loads(fields["data"])))
                    elif fields.get("event") == "summary":
                        self.summary = json.loads(fields["data"])
                    assert fields.get("event") != "reset"
                    last, fields = fields.get("id", last), {}

    def close(self) -> None:
        until(lambda: self.summary is not None)
        self._over.set()
        for thread in self._threads:
            thread.join()


def output_of(site: Site, run: str) -> bytes:
    return site.request("GET", f"/runs/{run}/output").content


def check(output: bytes, rows: int) -> None:
    """Each row once, with its result."""
    found = [json.loads(line) for line in output.splitlines()]
    assert Counter(row["id"] for row in found) == Counter(f"k{n}" for n in range(rows))
    assert all(row["loopai_output"] == {"twice": row["n"] * 2} for row in found)


def test_killed_ten_times_and_stopped_once(tmp_path, server) -> None:
    """Each time another process continues within ten seconds; each row is in the output once, and what was read
    meanwhile is its start."""
    rows = 15_000
    with site(tmp_path, server) as made:
        run = posted(made, rows)
        reader = Reader(made, run)
        for number in range(11):
            began = until(lambda: made.run(run)["done"])
            done = until(partial(made.done_beyond, run, began))
            assert done < rows, f"it was over after {number} kills"
            holder = until(lambda: made.at_work(run))
            if number == 5:
                # Nobody takes what a stopped process holds; woken, it continues (or uvicorn has killed it).
                holder.suspend()
                threading.Event().wait(6)
                with suppress(psutil.NoSuchProcess):
                    holder.resume()
                until(partial(made.done_beyond, run, done))
                continue
            holder.kill()
            until(partial(made.taken_from, run, holder), TAKEN_UP_WITHIN * crowd())
        ended = made.finished(run)
        assert (ended["done"], ended["ok"], ended["errors"]) == (rows, rows, 0)
        reader.close()
        output = output_of(made, run)
        check(output, rows)
        assert output.startswith(reader.output)
        assert len(reader.output) > len(output) / 2
        ids = [event_id for event_id, _ in reader.results]
        assert len(set(ids)) == len(ids) == rows
        assert Counter(data["key"] for _, data in reader.results) == Counter(f"k{n}" for n in range(rows))


def test_twenty_equal_posts_make_one_run(tmp_path, server) -> None:
    """To three workers at once: each gets the run, or 409 while the first upload is still coming."""
    with site(tmp_path, server) as made, ThreadPoolExecutor(20) as pool:

        def post(_: int) -> tuple[int, str]:
            reply = made.request(
                "POST", "/runs?key=id&format=jsonl", content=rows_of(3000), headers={"Idempotency-Key": "one"}
            )
            return reply.status_code, reply.json().get("id", "")

        replies = list(pool.map(post, range(20)))
        assert {status for status, _ in replies} <= {202, 409}
        runs = {run for status, run in replies if status == 202}
        assert len(runs) == 1
        assert post(0) == (202, *runs)
        assert len(made.request("GET", "/runs").json()["runs"]) == 1


def test_an_upload_that_breaks_off_claims_nothing_and_leaves_nothing(tmp_path, server) -> None:
    """Neither where its client goes away, nor where its process is killed."""
    with site(tmp_path, server) as made:
        incoming = made.folder / "runs" / "incoming"
        host, port = "127.0.0.1", int(made.url.rpartition(":")[2])
        head = (
            "POST /runs?format=jsonl HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\nIdempotency-Key: broken\r\n\r\n"
        )
        with socket.create_connection((host, port)) as client:
            client.sendall(head.encode() + rows_of(100))
            until(lambda: list(incoming.iterdir()))
            coming = made.request(
                "POST", "/runs?format=jsonl", content=rows_of(1), headers={"Idempotency-Key": "broken"}
            )
            assert coming.status_code == 409
            assert int(coming.headers["retry-after"]) > 0
        until(lambda: not list(incoming.iterdir()))
        with socket.create_connection((host, port)) as client:
            client.sendall(head.replace("broken", "killed").encode() + rows_of(100))
            place = until(lambda: list(incoming.iterdir()))[0]
            for process in made.workers():
                with suppress(psutil.Error):
                    if any(str(place) in file.path for file in process.open_files()):
                        process.kill()
        for key in ("broken", "killed"):
            assert posted(made, 1, **{"Idempotency-Key": key})
        assert len(made.request("GET", "/runs").json()["runs"]) == 2


def test_a_shutdown_leaves_a_run_waiting_and_a_start_takes_it_up(tmp_path, server) -> None:
    """In time: events end, and an upload that is still coming is refused, so that nothing holds the server back."""
    rows = 8_000
    with site(tmp_path, server) as made:
        run = posted(made, rows)
        until(lambda: made.run(run)["done"])
        begun, ended = threading.Event(), threading.Event()

        def follow() -> None:
            with httpx.stream("GET", f"{made.url}/runs/{run}/events", timeout=PATIENCE) as reply:
                for _ in reply.iter_lines():
                    begun.set()
            ended.set()

        events = threading.Thread(target=follow)
        events.start()
        assert begun.wait(PATIENCE)
        head = "POST /runs?format=jsonl HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", int(made.url.rpartition(":")[2]))) as slow:
            slow.sendall(head.encode() + rows_of(100))
            until(lambda: list((made.folder / "runs" / "incoming").iterdir()))
            os.killpg(made.process.pid, signal.SIGTERM)
            made.process.wait(20)
            assert slow.recv(100).startswith(b"HTTP/1.1 503 ")
        events.join()
        assert ended.is_set()
        stored = next((made.folder / "runs" / "runs").glob(f"*/{run}")) / "run.json"
        kept = json.loads(stored.read_bytes())
        assert (kept["state"], kept["reason"]) == ("waiting", "shutdown")
    with site(tmp_path, server) as again:
        again.finished(run)
        check(output_of(again, run), rows)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_stops_a_run_which_continues_once_there_is_room(tmp_path, server) -> None:
    """The output has no half line; the state says why."""
    disk = tmp_path / "runs"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(disk)]
    made = subprocess.run(mount, capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.decode().strip()}")
    try:
        with site(tmp_path, server) as served:
            run = posted(served, 6_000)
            stopped = until(lambda: (found := served.run(run))["state"] == "stopped" and found)
            assert (stopped["reason"], "The disk is full" in stopped["error"]) == ("disk_full", True)
            part = output_of(served, run)
            assert 0 < len(part.splitlines()) == stopped["done"] < 6_000
            assert part.endswith(b"\n")
            full = served.request("POST", "/runs?format=jsonl", content=rows_of(20_000))
            assert full.status_code == 507
            subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
            assert served.request("POST", f"/runs/{run}/resume").status_code == 202
            served.finished(run)
            whole = output_of(served, run)
            check(whole, 6_000)
            assert whole.startswith(part)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_background_task_dies_with_its_process(tmp_path, server) -> None:
    """Nobody takes it up, which a run would be; posted again with `mode="continue"`, it loses no rows."""
    rows = 8_000
    (tmp_path / "rows.jsonl").write_bytes(rows_of(rows))
    output = tmp_path / "out.jsonl"
    with site(tmp_path, server, AFTERWARDS, workers=1) as made:
        assert made.request("POST", "/judge").status_code == 202
        until(lambda: output.exists() and output.stat().st_size > 5_000)
        made.process.kill()
        made.process.wait()
    part = output.read_bytes()
    assert part.count(b"\n") < rows
    with site(tmp_path, server, AFTERWARDS, workers=1) as made:
        assert made.request("GET", "/runs").status_code == 200
        assert output.read_bytes() == part
        made.request("POST", "/judge")
        lines = 0
        while lines < rows:
            lines = until(partial(more_lines, output, lines))
    check(output.read_bytes(), rows)
