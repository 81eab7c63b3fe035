"""`runs_router`: an upload that is answered at once, and a run that is asked for later."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import os
import threading
import time
from contextlib import ExitStack
from datetime import datetime
from typing import Annotated, Any, Literal, Optional
from uuid import UUID

import pytest
from fastapi import FastAPI, Header
from fastapi.testclient import TestClient
from pydantic import BaseModel

from loopai import (
    ConfigurationError,
)
from loopai._core.wire import NoReply
from loopai.batch import OptionError
from loopai.contrib.fastapi import FolderFull, RunFolder, loopai_lifespan, runs_router, start_run, start_run_sync
from loopai.contrib.fastapi.runs import file_systems
from loopai.contrib.fastapi.runs.file_systems import network_file_system
from loopai.contrib.fastapi.runs.folder import owner_digest
from loopai.contrib.fastapi.testing import override_loopai
from loopai.testing import FakeLoopai, ProgramError

ROWS = [{"id": f"r{number}", "body": text} for number, text in enumerate(["a", 'q"uo\\te', "[{,}]", "ü\n", "bad"])]
PATIENCE = 20.0


class Mail(BaseModel):
    text: str


def current_user_id(x_user: Annotated[Optional[str], Header()] = None) -> Optional[str]:
    return x_user


def app_of(folder: RunFolder, **options: Any) -> FastAPI:
    app = FastAPI(lifespan=loopai_lifespan)
    options = {"input": Mail, "mapping": ["text=body"], "owner": current_user_id, "progress_every": 0.02, **options}
    app.include_router(runs_router("spam", folder, **options), prefix="/api")
    return app


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder(tmp_path / "var" / "runs")


class Gated(FakeLoopai):
    """A fake whose replies to requests that hold a text wait, from `shut` to `open`."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self._held: Optional[bytes] = None
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._lock_of_gate = threading.Lock()

    def shut(self, text: str = "") -> None:
        self._held = text.encode()

    def open(self) -> None:
        with self._lock_of_gate:
            self._held = None
            for loop, event in self._waiting:
                loop.call_soon_threadsafe(event.set)
            self._waiting.clear()

    def open_but(self, text: str) -> None:
        with self._lock_of_gate:
            waiting, self._waiting, self._held = self._waiting, [], text.encode()
        for loop, event in waiting:
            loop.call_soon_threadsafe(event.set)

    async def asend(self, request: Any) -> Any:
        with self._lock_of_gate:
            opened = asyncio.Event()
            if self._held is not None and self._held in (request.content or b""):
                self._waiting.append((asyncio.get_running_loop(), opened))
            else:
                opened.set()
        await opened.wait()
        if self.away:
            # What is final is not tried again within the run, which takes half a minute.
            return NoReply(ConnectionRefusedError("away"), arrived=False, final=True)
        return await super().asend(request)


@pytest.fixture
def task() -> Gated:
    """A task that puts texts into capitals."""

    def capitals(given):
        if given["text"] == "bad":
            raise ProgramError("nothing there")
        return {"upper": given["text"].upper()}

    made = Gated()
    made.task("spam").computes(capitals)
    return made


@pytest.fixture
def client(folder, task):
    app = app_of(folder)
    with override_loopai(app, task), TestClient(app, headers={"x-user": "ann"}) as client:
        yield client


def as_jsonl(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def until(client, url: str, *states: str) -> dict[str, Any]:
    """The run, once it is in one of the states."""
    began = time.monotonic()
    while True:
        run = client.get(url).json()
        if run["state"] in (states or ("finished", "stopped", "cancelled")):
            return run
        assert time.monotonic() < began + PATIENCE, run
        threading.Event().wait(0.01)


def events_of(text: str) -> list[tuple[str, Optional[str], Any]]:
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            found.append((fields["event"], fields.get("id"), json.loads(fields["data"])))
    return found


CSV = b'id,body\nr0,a\nr1,"q""uo\\te"\nr2,"[{,}]"\nr3,"\xc3\xbc\n"\nr4,bad\n'


@pytest.mark.parametrize(
    "posted",
    [
        {"json": ROWS},
        {"content": as_jsonl(ROWS), "headers": {"content-type": "application/x-ndjson"}},
        {"content": CSV, "headers": {"content-type": "text/csv"}},
        {"content": gzip.compress(CSV), "headers": {"content-type": "text/csv", "content-encoding": "gzip"}},
        {"content": as_jsonl(ROWS), "params": {"key": "id", "format": "jsonl"}},
        {"files": {"file": ("mails.csv", CSV)}},
        {"files": {"file": ("MAILS.JSONL.GZ", gzip.compress(as_jsonl(ROWS)), "application/gzip")}},
    ],
    ids=["json", "jsonl", "csv", "csv.gz", "format", "form csv", "form jsonl.gz"],
)
def test_an_upload_is_answered_with_a_run_that_ends_later(client, posted) -> None:
    """202 with the run's address, where its state, counts and output are found."""
    reply = client.post("/api/runs", **{"params": {"key": "id"}, **posted})
    assert reply.status_code == 202, reply.text
    url = reply.headers["location"]
    assert url == f"/api/runs/{reply.json()['id']}"
    run = until(client, url)
    assert (run["state"], run["rows"], run["done"], run["ok"], run["errors"]) == ("finished", 5, 5, 4, 1)
    assert run["error"] is None
    assert "nothing there" in run["last_error"]
    output = [json.loads(line) for line in client.get(f"{url}/output").text.splitlines()]
    assert {row["id"]: (row["loopai_key"], row["loopai_output"]) for row in output} == {
        "r0": ("r0", {"upper": "A"}),
        "r1": ("r1", {"upper": 'Q"UO\\TE'}),
        "r2": ("r2", {"upper": "[{,}]"}),
        "r3": ("r3", {"upper": "Ü\n"}),
        "r4": ("r4", None),
    }


def started(client, rows=ROWS, **given) -> str:
    """The address of a run of these rows."""
    reply = client.post("/api/runs", json=rows, **given)
    assert reply.status_code == 202, reply.text
    return reply.headers["location"]


@pytest.mark.parametrize(
    ("posted", "status", "told"),
    [
        ({"content": b"x", "headers": {"content-type": "image/png"}}, 415, "Send JSON, JSONL or CSV"),
        ({"content": b'{"a": 1}', "headers": {"content-type": "application/json"}}, 422, "not a JSON array"),
        ({"content": b'[{"body": "a"}', "headers": {"content-type": "application/json"}}, 422, "ends in the middle"),
        ({"content": b"id,text\n1,a\n", "headers": {"content-type": "text/csv"}}, 422, "no column 'body'"),
        ({"content": b"id,text\n", "headers": {"content-type": "text/csv"}}, 422, "no column 'body'"),
        (
            {"content": b"id,body\n1,a\n", "headers": {"content-type": "text/csv"}, "params": {"key": "nr"}},
            422,
            "no column 'nr'",
        ),
        ({"content": gzip.compress(CSV)[:-9], "headers": {"content-type": "text/csv"}}, 422, "ends in the middle"),
        ({"content": b"PK\x03\x04" + b"x" * 50, "headers": {"content-type": "text/csv"}}, 415, "zip archive"),
        ({"content": b"a" * 3000, "headers": {"content-type": "text/csv"}}, 413, "2000 bytes"),
        ({"json": [{"body": "a"}] * 21}, 413, "more than 20 rows"),
        ({"json": ROWS, "params": {"encoding": "klingon"}}, 422, "encoding"),
        ({"json": ROWS, "params": {"format": "xml"}}, 422, "format"),
    ],
)
def test_what_cannot_be_read_is_refused_and_leaves_nothing(folder, task, posted, status, told) -> None:
    """By the header, the first bytes, or wherever the upload turns out not to be one."""
    app = app_of(folder, max_bytes=2000, max_rows=20)
    with override_loopai(app, task), TestClient(app, headers={"x-user": "ann"}) as client:
        reply = client.post("/api/runs", **posted)
        assert reply.status_code == status, reply.text
        assert reply.headers["content-type"] == "application/problem+json"
        assert told in reply.json()["detail"]
        assert client.get("/api/runs").json() == {"runs": [], "next": None}
    assert [path for name in ("incoming", "runs", "keys") for path in (folder.path / name).rglob("*")] == []


def test_rows_that_are_wrong_are_errors_of_their_own(client, task) -> None:
    """A line that is not JSON, one without the column, an input of another type, a key that was there before."""
    lines = b'{"id": "a", "body": "x"}\nnot json\n{"id": "c"}\n{"id": "d", "body": 7}\n{"id": "a", "body": "y"}\n'
    reply = client.post("/api/runs", params={"format": "jsonl", "key": "id"}, content=lines)
    url = reply.headers["location"]
    run = until(client, url)
    assert (run["state"], run["rows"], run["ok"], run["errors"]) == ("finished", 5, 1, 4)
    output = [json.loads(line) for line in client.get(f"{url}/output").text.splitlines()]
    errors = {row["loopai_key"]: row["loopai_error"] for row in output if row["loopai_error"]}
    assert "is not JSON" in errors["line 2"]
    assert "no column 'body'" in errors["c"]
    assert "text: Input should be a valid string" in errors["d"]
    assert "the key 'a' is on lines 1 and 5" in errors["a"]
    assert task.task("spam").inputs == [{"text": "x"}]


def test_outputs_are_checked_where_their_type_is_given(folder, task) -> None:
    """Each row with another is an error, which counts for `max_errors`; OpenAPI has the type."""

    class Verdict(BaseModel):
        upper: Literal["A", "B"]

    app = app_of(folder, output=Verdict, max_errors=1)
    with override_loopai(app, task), TestClient(app, headers={"x-user": "ann"}) as client:
        url = started(client, [{"body": "a"}, {"body": "c"}, {"body": "b"}])
        assert until(client, url)["state"] == "finished"
        rows = [json.loads(line) for line in client.get(f"{url}/output").text.splitlines()]
        assert [(row["loopai_status"], row["loopai_output"]) for row in rows] == [
            ("ok", {"upper": "A"}), ("error", None), ("ok", {"upper": "B"}),
        ]  # fmt: skip
        assert rows[1]["loopai_error"] == "output: upper: Input should be 'A' or 'B'"
        events = client.get(f"{url}/events").text
        assert sorted(data["status"] for event, _, data in events_of(events) if event == "result") == [
            "error", "ok", "ok",
        ]  # fmt: skip
        assert until(client, started(client, [{"body": "c"}, {"body": "d"}]))["reason"] == "max_errors"
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert "/Verdict" in str(schemas["BatchResultOfVerdict"]["properties"]["output"])


def test_runs_are_their_owners_alone(client, folder) -> None:
    """Everybody else's are 404, whatever is asked of them; lists are per owner; nobody is 401."""
    url = started(client)
    until(client, url)
    bob = {"x-user": "bob"}
    for method, path in (
        ("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/output"), ("GET", "/report"), ("POST", "/resume"),
    ):  # fmt: skip
        reply = client.request(method, url + path, headers=bob)
        assert (reply.status_code, reply.headers["content-type"]) == (404, "application/problem+json")
        assert client.request(method, url + path, headers={"x-user": ""}).status_code == 401
    assert client.get("/api/runs", headers=bob).json()["runs"] == []
    assert client.post("/api/runs", json=ROWS, headers={"x-user": ""}).status_code == 401
    assert client.get("/api/runs", headers={"x-user": ""}).status_code == 401
    assert len(client.get("/api/runs").json()["runs"]) == 1
    modes = {path: path.stat().st_mode & 0o777 for path in [folder.path, *folder.path.rglob("*")]}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if not path.is_dir()} == {0o600}
    assert not any("ann" in str(path) or b"ann" in path.read_bytes() for path in modes if path.is_file())


@pytest.mark.parametrize("told", ["..", "%2e%2e", "..%2f..%2frun.json", "00000000-0000-7000-8000-00000000000", "x"])
def test_no_path_is_made_of_what_is_asked_for(client, told) -> None:
    """An id is a UUID, or nothing is looked for."""
    assert client.get(f"/api/runs/{told}").status_code in {404, 422}


def test_all_callers_share_runs_where_that_is_said(folder, task) -> None:
    """`owner=None` needs no header."""
    app = app_of(folder, owner=None)
    with override_loopai(app, task), TestClient(app) as client:
        assert until(client, started(client))["state"] == "finished"
        assert len(client.get("/api/runs", headers={"x-user": "bob"}).json()["runs"]) == 1


def test_an_owner_must_be_given_and_name_somebody(folder, task) -> None:
    """Without the word, nothing is private by mistake; an object's text would be another in each process."""
    with pytest.raises(TypeError, match="owner"):
        runs_router("spam", folder)  # type: ignore[call-arg]
    app = app_of(folder, owner=object)
    with (
        override_loopai(app, task),
        TestClient(app) as client,
        pytest.raises(ConfigurationError, match="a text, a number or a UUID that names the caller, not object"),
    ):
        client.get("/api/runs")


def test_the_list_is_paged_newest_first(client) -> None:
    """`next` leads to the page after."""
    urls = [started(client) for _ in range(5)]
    for url in urls:
        until(client, url)
    found: list[str] = []
    page: dict[str, Any] = {"next": None}
    pages = 0
    while pages == 0 or page["next"] is not None:
        before = {} if page["next"] is None else {"before": page["next"]}
        page = client.get("/api/runs", params={"limit": 2, **before}).json()
        found += [run["id"] for run in page["runs"]]
        pages += 1
    assert pages == 3
    assert found == [url.rpartition("/")[2] for url in reversed(urls)]


def test_a_run_is_cancelled_and_then_removed(client, folder, task) -> None:
    """`DELETE` of a run at work ends it within a second; of one that has ended, all of its files go."""
    task.shut()
    url = started(client)
    until(client, url, "running")
    assert client.delete(url).status_code == 202
    run = until(client, url)
    assert (run["state"], run["done"], run["cancelling"]) == ("cancelled", 0, False)
    task.open()
    assert client.delete(url).status_code == 204
    assert client.get(url).status_code == 404
    assert list((folder.path / "runs").rglob("*.json*")) == []


def test_a_run_that_waits_is_cancelled_at_once(task, tmp_path) -> None:
    """No process has to see it first."""
    app = app_of(RunFolder(tmp_path / "runs", max_runs=1))
    with override_loopai(app, task), TestClient(app, headers={"x-user": "ann"}) as client:
        task.shut()
        first = started(client)
        until(client, first, "running")
        second = started(client)
        assert client.get(second).json()["state"] == "waiting"
        reply = client.delete(second)
        assert (reply.status_code, reply.json()["state"]) == (202, "cancelled")
        task.open()
        assert until(client, first)["state"] == "finished"
        # It can still be taken up.
        assert client.post(f"{second}/resume").status_code == 202
        assert until(client, second)["ok"] == 4


def test_failed_rows_run_again(client, task) -> None:
    """Once, and only they; the output has each row once."""
    url = started(client)
    assert until(client, url)["errors"] == 1
    assert client.post(f"{url}/resume").status_code == 409
    task.task("spam").computes(lambda given: {"upper": given["text"].upper()})
    before = len(task.task("spam").inputs)
    assert client.post(f"{url}/resume", params={"retry_failed": True}).status_code == 202
    run = until(client, url)
    assert (run["state"], run["ok"], run["errors"]) == ("finished", 5, 0)
    assert task.task("spam").inputs[before:] == [{"text": "bad"}]
    output = [json.loads(line) for line in client.get(f"{url}/output").text.splitlines()]
    assert sorted(row["id"] for row in output) == ["r0", "r1", "r2", "r3", "r4"]
    assert client.post(f"{url}/resume", params={"retry_failed": True}).status_code == 409


def test_too_many_errors_end_a_run_which_can_be_resumed(folder, task) -> None:
    """With the reason; `max_errors` is the one that the run was made with."""
    app = app_of(folder, max_errors=1, chunk_size=2)
    with override_loopai(app, task), TestClient(app, headers={"x-user": "ann"}) as client:
        url = started(client, [{"body": "bad"}] * 3 + [{"body": "a"}] * 3)
        run = until(client, url)
        assert (run["state"], run["reason"]) == ("stopped", "max_errors")
        assert "max_errors" in run["error"]
        assert 2 <= run["done"] < 6
        task.task("spam").computes(lambda given: given["text"])
        client.post(f"{url}/resume")
        assert until(client, url)["state"] == "finished"
        assert client.get(url).json()["done"] == 6


@pytest.mark.parametrize("status", [404, 401])
def test_a_refusal_ends_a_run(client, task, status) -> None:
    """What the server refuses it refuses again."""
    task.task("spam").raises(status)
    run = until(client, started(client))
    assert (run["state"], run["reason"], run["done"]) == ("stopped", "refused", 0)
    assert run["error"]


def test_a_server_that_is_away_is_waited_for(tmp_path, task) -> None:
    """After 1, 5, 15 and 60 minutes, each time shown with the reason; once it is back the run ends."""
    now = [1_000_000.0]
    folder = RunFolder(tmp_path / "runs", clock=lambda: now[0])
    app = app_of(folder, chunk_size=1)
    task.away = True
    with override_loopai(app, task), TestClient(app, headers={"x-user": "ann"}) as client:
        url = started(client)
        for seconds in (60, 300, 900, 3600, 3600):
            retry_at = now[0] + seconds
            while True:
                run = client.get(url).json()
                if run["retry_at"] and datetime.fromisoformat(run["retry_at"][:19] + "+00:00").timestamp() == retry_at:
                    break
                assert run["state"] in {"waiting", "running"}
            assert (run["state"], run["reason"]) == ("waiting", "unreachable")
            assert "could not be reached" in run["error"]
            if seconds < 3600 or now[0] < 1_004_000:
                now[0] = retry_at
                folder.wake()
        task.away = False
        # Nobody has to wait for it.
        assert client.post(f"{url}/resume").status_code == 202
        assert until(client, url)["done"] == 5


def test_a_run_keeps_what_it_was_made_with(folder, task) -> None:
    """A deploy with another mapping, input and limit changes nothing of what waits; a shutdown leaves it waiting."""
    task.shut("text")
    app = app_of(folder, chunk_size=1, max_in_flight=1)
    headers = {"x-user": "ann"}
    with override_loopai(app, task), TestClient(app, headers=headers) as client:
        url = started(client)
        until(client, url, "running")
        threading.Timer(0.1, task.open).start()
    found = folder.find(owner_digest("ann"), "runs:spam", UUID(url.rpartition("/")[2]))
    assert found is not None
    record = found.read()
    assert (record.state, record.options) == ("waiting", {"chunk_size": 1, "max_in_flight": 1})

    class Other(BaseModel):
        nothing: int

    later = app_of(folder, mapping=["nothing=id"], input=Other, max_errors=0)
    with override_loopai(later, task), TestClient(later, headers=headers) as client:
        run = until(client, url)
    assert (run["state"], run["ok"], run["errors"]) == ("finished", 4, 1)
    assert {tuple(given) for given in task.task("spam").inputs} == {("text",)}


# Limits


def test_as_many_runs_as_may_are_at_work_and_the_rest_wait_in_order(tmp_path, task) -> None:
    """Also those of another application over the same folder."""
    folder = RunFolder(tmp_path / "runs", max_runs=2, max_waiting_per_owner=10)
    apps = [app_of(folder), app_of(RunFolder(tmp_path / "runs", max_runs=2, max_waiting_per_owner=10))]
    task.shut()
    with ExitStack() as stack:
        clients = []
        for app in apps:
            stack.enter_context(override_loopai(app, task))
            clients.append(stack.enter_context(TestClient(app, headers={"x-user": "ann"})))
        urls = [started(clients[number % 2], [{"body": str(number)}]) for number in range(6)]
        for url in urls[:2]:
            until(clients[0], url, "running")
        assert [clients[1].get(url).json()["state"] for url in urls[2:]] == ["waiting"] * 4
        task.open()
        for url in urls:
            until(clients[0], url)
        ended = [clients[0].get(url).json()["started_at"] for url in urls]
    assert ended == sorted(ended)


def test_limits_are_met_before_the_upload_is_read(tmp_path, task) -> None:
    """503 with Retry-After for runs that wait, of all and of one; 507 for a full folder."""
    folder = RunFolder(tmp_path / "runs", max_runs=1, max_waiting=3, max_waiting_per_owner=2)
    app = app_of(folder)
    with override_loopai(app, task), TestClient(app, headers={"x-user": "ann"}) as client:
        task.shut()
        until(client, started(client), "running")
        waiting = [started(client) for _ in range(2)]

        def never():
            raise AssertionError("it was read")
            yield b""

        for user, told in (("ann", "2 of your runs"), ("bob", "")):
            reply = client.post(
                "/api/runs", content=never() if told else as_jsonl(ROWS), params={"format": "jsonl"},
                headers={"x-user": user},
            )  # fmt: skip
            if told:
                assert (reply.status_code, told in reply.json()["detail"]) == (503, True)
                assert int(reply.headers["retry-after"]) > 0
            else:
                assert reply.status_code == 202
        reply = client.post("/api/runs", json=ROWS, headers={"x-user": "cid"})
        assert (reply.status_code, "3 runs are waiting" in reply.json()["detail"]) == (503, True)
        for url in waiting:
            client.delete(url)
        folder.max_folder_bytes = folder.bytes_used() + 1000
        reply = client.post("/api/runs", json=[{"body": "x" * 2000}])
        assert (reply.status_code, reply.headers["content-type"]) == (507, "application/problem+json")
        # A gzipped upload says less of itself: it is ended where it gets too large.
        packed = gzip.compress(as_jsonl([{"body": "x" * 5000}]))
        assert client.post("/api/runs", content=packed, params={"format": "jsonl"}).status_code == 507
        task.open()
        assert list((folder.path / "incoming").iterdir()) == []


def test_runs_are_removed_some_days_after_their_end(tmp_path, task) -> None:
    """With what their keys were used for, and what broken-off uploads have left."""
    now = [1_000_000.0]
    folder = RunFolder(tmp_path / "runs", keep_days=2, clock=lambda: now[0])
    app = app_of(folder)
    with override_loopai(app, task), TestClient(app, headers={"x-user": "ann"}) as client:
        url = started(client, headers={"Idempotency-Key": "k"})
        until(client, url)
        (folder.path / "incoming" / "left").mkdir()
        folder.sweep()
        assert client.get(url).status_code == 200
        assert list((folder.path / "incoming").iterdir()) == []
        assert len(list((folder.path / "keys").iterdir())) == 1
        now[0] += 3 * 86_400
        folder.sweep()
        assert client.get(url).status_code == 404
    assert list((folder.path / "keys").iterdir()) == []


def test_a_network_file_system_is_refused_when_the_application_starts(tmp_path, monkeypatch, task) -> None:
    """Where the system names it; others are not."""
    share = f"{tmp_path}/the\\040share"
    mounts = f"/dev/vda / ext4 rw 0 0\nhost:/x {share} nfs4 rw 0 0\n/dev/vdb {share}/own xfs rw 0 0\n"
    for name, kind in (("", None), ("the share", "nfs4"), ("the share/deep/er", "nfs4"), ("the share/own/x", None)):
        assert network_file_system(tmp_path / name, mounts) == kind
    (tmp_path / "mounts").write_text(mounts)
    monkeypatch.setattr(file_systems, "MOUNTS", tmp_path / "mounts")
    app = app_of(RunFolder(tmp_path / "the share" / "runs"))
    refused = pytest.raises(ConfigurationError, match=r"network file system \(nfs4\)")
    with override_loopai(app, task), refused, TestClient(app):
        pass
    assert not (tmp_path / "the share").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_runs": 0}, "max_runs must be a whole number from 1"),
        ({"max_waiting": "many"}, "max_waiting must be"),
        ({"max_waiting_per_owner": -1}, "max_waiting_per_owner must be"),
        ({"max_folder_bytes": 1.5}, "max_folder_bytes must be"),
        ({"keep_days": -1}, "keep_days must be"),
    ],
)
def test_wrong_limits_are_refused(options, told) -> None:
    """When the folder is named, not at the first upload."""
    with pytest.raises(ConfigurationError, match=told):
        RunFolder("runs", **options)


def test_options_of_others_are_refused(folder) -> None:
    """With where they belong."""
    with pytest.raises(ConfigurationError, match=r"max_runs.*: it is one of RunFolder"):
        runs_router("spam", folder, owner=None, max_runs=3)  # type: ignore[call-arg]
    with pytest.raises(OptionError, match="mode is not an option here"):
        runs_router("spam", folder, owner=None, mode="new")  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="needs a RunFolder, not str"):
        runs_router("spam", "var/runs", owner=None)  # type: ignore[arg-type]


# Idempotency-Key


def test_an_idempotency_key_makes_one_run(client) -> None:
    """The same bytes give the same run; others, or other options, 422; another owner's key is another."""
    key = {"Idempotency-Key": "k1"}
    url = started(client, headers=key)
    until(client, url)
    assert started(client, headers=key) == url
    for given in ({"json": ROWS[:1]}, {"json": ROWS, "params": {"key": "id"}}):
        reply = client.post("/api/runs", headers=key, **given)
        assert (reply.status_code, "Idempotency-Key" in reply.json()["detail"]) == (422, True)
    assert started(client, headers={**key, "x-user": "bob"}) != url
    assert started(client, headers={"Idempotency-Key": "k2"}) != url
    # The form's boundary is another each time.
    form = {"file": ("mails.csv", CSV)}
    urls = {
        client.post("/api/runs", files=form, headers={"Idempotency-Key": "k3"}).headers["location"] for _ in range(2)
    }
    assert len(urls) == 1
    client.delete(url)
    assert started(client, headers=key) != url


def test_an_upload_that_is_refused_claims_no_key(client) -> None:
    """The key is still there for the upload that was meant."""
    key = {"Idempotency-Key": "k1", "content-type": "application/json"}
    assert client.post("/api/runs", content=b'[{"body":', headers=key).status_code == 422
    assert client.post("/api/runs", content=b'[{"body": "a"}]', headers=key).status_code == 202


# Events, output, report


def test_events_of_a_run_from_its_start_to_its_end(client, folder) -> None:
    """Results with ids, the run as progress, the run as summary; after that id there is nothing more."""
    url = started(client, params={"key": "id"})
    events = events_of(client.get(f"{url}/events").text)
    results = {data["key"]: data for name, _, data in events if name == "result"}
    assert results["r0"]["status"] == "ok"
    assert results["r0"]["output"] == {"upper": "A"}
    assert results["r0"]["columns"] == {"id": "r0", "body": "a"}
    assert (results["r4"]["status"], "output" in results["r4"]) == ("error", False)
    name, last, summary = events[-1]
    assert name == "summary"
    assert last is not None
    assert last.endswith("-end")
    assert (summary["state"], summary["done"]) == ("finished", 5)
    for header in ({"Last-Event-ID": last}, {}):
        reply = client.get(f"{url}/events", headers=header, params={} if header else {"after": last})
        assert (reply.status_code, reply.content) == (204, b"")
    # From the middle on.
    ids = [event_id for name, event_id, _ in events if name == "result"]
    rest = events_of(client.get(f"{url}/events", headers={"Last-Event-ID": ids[2]}).text)
    assert [event_id for name, event_id, _ in rest if name == "result"] == ids[3:]
    assert not any(name == "reset" for name, _, _ in rest)


def test_events_start_again_after_failed_rows_ran_again(client, task) -> None:
    """An id of before, or one of no event, gets `reset` first, and then all results."""
    url = started(client)
    old = events_of(client.get(f"{url}/events").text)
    task.task("spam").computes(lambda given: given["text"])
    client.post(f"{url}/resume", params={"retry_failed": True})
    until(client, url)
    first = next(event_id for name, event_id, _ in old if name == "result")
    for stale in (first, old[-1][1], "0-7", "5-0", "0-99999999999"):
        events = events_of(client.get(f"{url}/events", headers={"Last-Event-ID": stale}).text)
        assert (events[0][0], events[0][2]) == ("reset", {"generation": 1}), stale
        assert len([name for name, _, _ in events if name == "result"]) == 5
    assert events_of(client.get(f"{url}/events", headers={"Last-Event-ID": "nonsense"}).text)[0][0] == "result"


def test_the_output_has_ranges_and_says_how_long_it_is_once_it_has_ended(client, task) -> None:
    """What has been read stays a prefix; the ETag is another after failed rows ran again."""
    url = started(client)
    until(client, url)
    whole = client.get(f"{url}/output")
    size = len(whole.content)
    tag = whole.headers["etag"]
    assert whole.headers["content-length"] == str(size)
    assert whole.headers["cache-control"] == "private, no-store"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["content-disposition"].startswith("attachment; filename=")
    assert whole.headers["content-type"] == "application/x-ndjson"
    for asked, first, end in (("0-9", 0, 10), ("10-", 10, size), ("-7", size - 7, size), (f"5-{size * 2}", 5, size)):
        reply = client.get(f"{url}/output", headers={"Range": f"bytes={asked}", "If-Range": tag})
        assert (reply.status_code, reply.content) == (206, whole.content[first:end])
        assert reply.headers["content-range"] == f"bytes {first}-{end - 1}/{size}"
    for asked in (f"{size}-", "-0"):
        reply = client.get(f"{url}/output", headers={"Range": f"bytes={asked}"})
        assert (reply.status_code, reply.headers["content-range"]) == (416, f"bytes */{size}")
    for ignored in ({"Range": "bytes=0-1,3-4"}, {"Range": "rows=1-2"}, {"Range": "bytes=0-1", "If-Range": '"other"'}):
        assert client.get(f"{url}/output", headers=ignored).status_code == 200
    task.task("spam").computes(lambda given: given["text"])
    client.post(f"{url}/resume", params={"retry_failed": True})
    until(client, url)
    assert client.get(f"{url}/output").headers["etag"] != tag


def test_a_growing_output_does_not_say_how_long_it_will_be(folder, task) -> None:
    """And has what the journal has recorded, nothing of what is being written."""
    app = app_of(folder, chunk_size=1, max_in_flight=1)
    with override_loopai(app, task), TestClient(app, headers={"x-user": "ann"}) as client:
        task.shut()
        url = started(client)
        until(client, url, "running")
        assert client.get(f"{url}/output").content == b""
        run = next((folder.path / "runs").glob("*/*"))
        with open(run / "output.jsonl", "ab") as file:
            file.write(b'{"half')
        reply = client.get(f"{url}/output")
        assert (reply.status_code, reply.content) == (200, b"")
        assert client.get(f"{url}/output", headers={"Range": "bytes=0-"}).status_code == 416
        os.truncate(run / "output.jsonl", 0)
        # The other rows come back.
        task.open_but("bad")
        while client.get(url).json()["done"] < 4:
            pass
        part = client.get(f"{url}/output", headers={"Range": "bytes=3-"})
        assert (part.status_code, part.headers["content-range"].endswith("/*")) == (206, True)
        start = client.get(f"{url}/output")
        task.open()
        until(client, url)
        whole = client.get(f"{url}/output")
        assert whole.content.startswith(start.content)
        assert whole.headers["etag"] == start.headers["etag"]
        assert start.content[3:] == part.content


def test_csv_has_all_columns_and_no_formulas(client, task) -> None:
    """Texts that a spreadsheet would run get an apostrophe; numbers stay numbers."""
    task.task("spam").computes(lambda given: {"=x": given["text"]})
    rows = [{"body": "=1+1"}, {"body": "@b", "-more": "+c"}, {"body": "d", "n": -5, "list": [1]}]
    url = started(client, rows)
    until(client, url)
    reply = client.get(f"{url}/output", params={"format": "csv"})
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    assert reply.headers["content-disposition"].endswith('.csv"')
    found = list(csv.DictReader(io.StringIO(reply.text)))
    assert [row["body"] for row in found] == ["'=1+1", "'@b", "d"]
    assert [row["'-more"] for row in found] == ["", "'+c", ""]
    assert (found[2]["n"], found[2]["list"]) == ("-5", "[1]")
    assert [json.loads(row["loopai_output"]) for row in found][2] == {"=x": "d"}
    task.task("spam").computes(lambda given: {"a": -5, "b": -0.5, "c": "-5", "d": True}[given["text"]])
    url = started(client, [{"body": body} for body in "abcd"])
    until(client, url)
    found = list(csv.DictReader(io.StringIO(client.get(f"{url}/output", params={"format": "csv"}).text)))
    assert [row["loopai_output"] for row in found] == ["-5", "-0.5", '"-5"', "true"]


def test_csv_has_a_column_for_each_member_of_the_output(folder) -> None:
    """In the order of the task's schema; `nested` leaves them out."""
    task, app = Gated(), app_of(folder)
    with task.client() as made:
        schema = {"type": "object", "properties": {"upper": {}, "words": {}}}
        made.create_task("spam", "…", {"type": "object"}, schema)
    task.task("spam").computes(lambda given: {"words": [given["text"]], "upper": f"={given['text']}"})
    with override_loopai(app, task), TestClient(app, headers={"x-user": "ann"}) as client:
        url = started(client, [{"body": "a", "output.upper": "own"}])
        until(client, url)
        reply = client.get(f"{url}/output", params={"format": "csv"})
        bare = client.get(f"{url}/output", params={"format": "csv", "nested": True})
    (found,) = csv.DictReader(io.StringIO(reply.text))
    assert list(found)[-2:] == ["loopai_output.upper", "output.words"]
    assert [found[name] for name in ("output.upper", *list(found)[-2:])] == ["own", "'=a", '["a"]']
    assert bare.text.splitlines()[0].endswith("loopai_confidence")


def test_kept_columns_alone_stay_in_the_output(folder, task) -> None:
    """And the one with the right answer, which is never sent."""
    app = app_of(folder, input=None, mapping=["text=body"], keep=["id"], expect="right=output.upper")
    with override_loopai(app, task), TestClient(app, headers={"x-user": "ann"}) as client:
        url = started(client, [{"id": 1, "body": "a", "right": "A"}, {"id": 2, "body": "b", "right": "A"}])
        assert until(client, url)["accuracy"] == 0.5
        rows = [json.loads(line) for line in client.get(f"{url}/output").text.splitlines()]
        assert [{"id", "right"} == {name for name in row if not name.startswith("loopai_")} for row in rows] == [
            True
        ] * 2
    assert task.task("spam").inputs == [{"text": "a"}, {"text": "b"}]


def test_the_report_is_a_page_that_can_do_nothing(client, task) -> None:
    """409 before there is one; then under a policy that sandboxes it."""
    task.shut()
    url = started(client)
    until(client, url, "running")
    assert client.get(f"{url}/report").status_code == 409
    task.open()
    until(client, url)
    reply = client.get(f"{url}/report")
    assert reply.headers["content-security-policy"].startswith("sandbox;")
    assert reply.headers["cache-control"] == "private, no-store"
    assert "5 rows" in reply.text


# From one's own code


async def test_rows_of_ones_own_code_become_a_run(folder, task) -> None:
    """From any rows, on the disk before it returns, with the options of a batch; it is in the router's list."""

    async def rows():
        for row in ROWS:
            yield row

    path = folder.path.parent / "mails.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(CSV)
    made = [
        await start_run("spam", rows(), folder=folder, owner="ann", mapping=["text=body"], key="id", chunk_size=2),
        await start_run("spam", iter(ROWS), folder=folder, owner="ann", mapping=["text=body"]),
        start_run_sync("spam", path, folder=folder, owner="ann", mapping=["text=body"], limit=2),
    ]
    assert [(run.state, run.rows) for run in made] == [("waiting", 5), ("waiting", 5), ("waiting", 2)]
    app = app_of(folder)
    with override_loopai(app, task), TestClient(app, headers={"x-user": "ann"}) as client:
        assert {run["id"] for run in client.get("/api/runs").json()["runs"]} == {str(run.id) for run in made}
        assert [until(client, f"/api/runs/{run.id}")["ok"] for run in made] == [4, 4, 2]
        output = client.get(f"/api/runs/{made[0].id}/output").text.splitlines()
        assert sorted(json.loads(line)["loopai_key"] for line in output) == ["r0", "r1", "r2", "r3", "r4"]


async def test_rows_that_break_off_leave_nothing(folder) -> None:
    """Neither rows of a generator that raises, nor options that do not fit, nor a run above the limit."""

    def rows():
        yield {"text": "a"}
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await start_run("spam", rows(), folder=folder, owner=None)
    with pytest.raises(ConfigurationError, match="no option 'mode'"):
        await start_run("spam", [], folder=folder, owner=None, mode="new")
    with pytest.raises(ConfigurationError, match="names the caller, not an empty text"):
        await start_run("spam", [], folder=folder, owner="")
    with pytest.raises(OptionError, match="chunk_size"):
        await start_run("spam", [], folder=folder, owner=None, chunk_size=0)
    assert list((folder.path / "incoming").iterdir()) == []
    folder.max_waiting_per_owner = 1
    await start_run("spam", [{"text": "a"}, {"text": float("nan")}], folder=folder, owner=7)
    with pytest.raises(FolderFull, match="1 of your runs"):
        await start_run("spam", [{"text": "a"}], folder=folder, owner=7)
