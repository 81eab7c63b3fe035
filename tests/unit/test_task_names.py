"""A task's name wherever an id is taken: asked of the server once, remembered, and asked again when it is gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional
from uuid import UUID

import pytest

from loopai import SyncLoopaiClient
from loopai._core.names import MOST_NAMES, Names
from loopai._core.wire import Answer, Reply, Request
from loopai.exceptions import (
    ConfigurationError,
    JournalError,
    NotFoundException,
    ServerException,
    ValidationException,
)

OLD = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"
NEW = "0b9e8d7c-6a5b-4c3d-9e2f-1a0b9c8d7e6f"
OTHER = "3c4d5e6f-7a8b-4c9d-8e0f-2b3c4d5e6f70"
KNOWN = {"name": "n", "description": "d", "created_at": "2026-01-01T00:00:00Z"}


def reply(status: int, body: Any) -> Reply:
    return Reply(status, {"content-type": "application/json"}, json.dumps(body).encode())


class Server:
    """A transport that knows tasks by name; `here` are the ids that it has."""

    def __init__(self, **names: str) -> None:
        self.names = names
        self.here = set(names.values())
        self.looks_up = True
        self.has_programs = True
        self.asked: list[str] = []

    def send(self, request: Request) -> Answer:
        path = request.url.partition("/api/v1/")[2]
        self.asked.append(path)
        if path.startswith("tasks/by-name/"):
            if not self.looks_up:
                return Reply(404, {}, b"")
            found: Optional[str] = self.names.get(path.rpartition("/")[2])
            if found is None:
                return reply(404, {"code": "NOT_FOUND", "message": "no such task"})
            return reply(200, {**KNOWN, "id": found})
        body = json.loads(request.content) if request.content else {}
        task = body.get("task_id") or path.split("/")[1]
        if task not in self.here:
            return reply(404, {"code": "NOT_FOUND", "message": f"Task with ID {task} not found"})
        if path == "batch/execute":
            results = [{"id": item["id"], "success": True, "output": 1, "latency_ms": 1} for item in body["items"]]
            parts = {"batch_id": OTHER, "task_id": task, "version": 1, "total_items": len(results), "results": results}
            times = dict.fromkeys(("started_at", "completed_at"), "2026-01-01T00:00:00Z")
            counts = {"success_count": len(results), "failure_count": 0, "total_duration_ms": 1, "avg_latency_ms": 1}
            return reply(200, {**parts, **times, **counts})
        if path.endswith("/execute"):
            return reply(200, {"task_id": task, "status": "success", "output": task, "latency_ms": 1})
        return reply(200, {**KNOWN, "id": task})

    async def asend(self, request: Request) -> Answer:
        return self.send(request)

    def close(self) -> None:
        """Hold nothing."""

    async def aclose(self) -> None:
        """Hold nothing."""


Execute = Callable[..., Any]


@pytest.fixture
def server() -> Server:
    return Server(spam=OLD)


@pytest.fixture
def client(calls: Any, server: Server) -> Any:
    return calls.client(transport=server)


def test_a_name_is_looked_up_once(calls: Any, client: Any, server: Server) -> None:
    """The first call asks for the id, the following ones use it, those of the client's copies too."""
    assert calls("execute", "spam", 1, client=client).output == OLD
    assert calls("get_task", "spam", client=client.with_options(timeout=5)).id == UUID(OLD)
    assert calls("batch_execute", "spam", [1, 2], client=client).success_count == 2
    assert server.asked == ["tasks/by-name/spam", f"tasks/{OLD}/execute", f"tasks/{OLD}", "batch/execute"]


def test_the_chunks_of_a_run_look_up_once(calls: Any, client: Any, server: Server) -> None:
    """The first one does, the others use what it learned; a task that is made anew meanwhile is found."""
    rows: Any = ({"n": number} for number in range(6))

    def numbered() -> Iterator[Any]:
        for number, row in enumerate(rows):
            if number == 4:
                server.names["spam"], server.here = OTHER, {OTHER}
            yield row

    stream = client.batch_stream("spam", numbered(), chunk_size=1, max_in_flight=1)
    statuses = [outcome.status for outcome in stream] if calls.kind == "sync" else calls.run(_statuses(stream))
    assert statuses == ["ok"] * 6
    assert server.asked.count("tasks/by-name/spam") == 2


def test_an_unknown_name_is_not_found_each_time(calls: Any, client: Any, server: Server) -> None:
    """Failures are not remembered: a task that is created later is found."""
    for _ in range(2):
        with pytest.raises(NotFoundException, match="'ham' not found"):
            calls("execute", "ham", 1, client=client)
    server.names["ham"] = NEW
    server.here.add(NEW)
    assert calls("execute", "ham", 1, client=client).output == NEW


def test_a_task_made_anew_is_found_under_its_name(calls: Any, client: Any, server: Server) -> None:
    """A 404 for a remembered id asks for the name once more."""
    calls("execute", "spam", 1, client=client)
    server.names["spam"], server.here = NEW, {NEW}
    assert calls("execute", "spam", 2, client=client).output == NEW
    assert server.asked[2:] == [f"tasks/{OLD}/execute", "tasks/by-name/spam", f"tasks/{NEW}/execute"]


def test_a_404_for_something_else_stays_one(calls: Any, client: Any, server: Server) -> None:
    """One fresh look-up, and no more where the name means what it meant."""
    calls("execute", "spam", 1, client=client)
    server.here.clear()
    with pytest.raises(NotFoundException, match="Task with ID"):
        calls("execute", "spam", 2, client=client)
    assert server.asked[2:] == [f"tasks/{OLD}/execute", "tasks/by-name/spam"]


def test_an_id_is_never_taken_for_its_name(calls: Any, client: Any, server: Server) -> None:
    """Who gives the id of a task that is gone does not get the one that has its name now."""
    calls("execute", "spam", 1, client=client)
    server.names["spam"], server.here = NEW, {NEW}
    with pytest.raises(NotFoundException):
        calls("execute", OLD, 2, client=client)
    assert server.asked[-1] == f"tasks/{OLD}/execute"


def test_a_server_that_cannot_look_up_is_a_matter_of_configuration(calls: Any, client: Any, server: Server) -> None:
    """The error names the three ways to say which task a name is."""
    server.looks_up = False
    with pytest.raises(ConfigurationError) as raised:
        calls("execute", "spam", 1, client=client)
    assert all(way in str(raised.value) for way in ("tasks={'spam'", "LOOPAI_TASKS=spam=", "LOOPAI setting"))


def test_the_clients_own_names_come_first(calls: Any, server: Server) -> None:
    """A name among `tasks` is not asked for, and stands in the error for one that is not."""
    client = calls.client(transport=server, tasks={"spam": OLD})
    assert calls("execute", "spam", 1, client=client).output == OLD
    with pytest.raises(NotFoundException, match="the client's own names are spam"):
        calls("execute", "sapm", 1, client=client)
    assert server.asked == [f"tasks/{OLD}/execute", "tasks/by-name/sapm"]


def test_binding_asks_nothing(calls: Any, client: Any, server: Server) -> None:
    """`bind` and `batch_stream` do no I/O before their first request."""
    bound = client.bind("spam", input=int, output=str)
    stream = client.batch_stream("spam", [1])
    assert server.asked == []
    assert calls.run(bound(1)) == OLD
    if calls.kind == "sync":
        assert [outcome.status for outcome in stream] == ["ok"]
    else:
        assert calls.run(_statuses(stream)) == ["ok"]


async def _statuses(stream: Any) -> list[str]:
    return [outcome.status async for outcome in stream]


def test_coalesced_calls_look_up_as_others(calls: Any, server: Server) -> None:
    """The group's request is made for the id that its name has."""
    client = calls.client(transport=server, coalesce=True)
    assert calls("execute", "spam", 1, client=client).output == OLD


def test_other_failures_of_a_look_up_are_told_as_they_are(calls: Any, client: Any, server: Server) -> None:
    """A server that is down is not one that cannot look up."""
    server.send = lambda request: Reply(500, {}, b"")  # type: ignore[method-assign]  # broken from here on
    with pytest.raises(ServerException):
        calls("execute", "spam", 1, client=client)


def test_so_many_names_are_remembered() -> None:
    """The oldest goes, so that names from requests cannot fill the memory."""
    names = Names()
    for number in range(MOST_NAMES + 5):
        names.remember(f"task{number}", OLD)
    assert len(names) == MOST_NAMES
    assert names.of("task4") == "task4"
    assert names.of("task5") == OLD


def test_a_name_that_leads_up_is_a_name(server: Server) -> None:
    """No name ends as another path of the server."""
    with pytest.raises(NotFoundException), SyncLoopaiClient(transport=server) as client:  # type: ignore[arg-type]  # both
        client.get_task("../health")
    assert server.asked == ["tasks/by-name/..%2Fhealth"]


def _ran(calls: Any, client: Any, task: str, output: Path, mode: str, limit: int) -> Any:
    rows = [{"n": number} for number in range(4)]
    return calls("run_batch", task, rows, output, key="n", mode=mode, limit=limit, client=client)


@pytest.mark.parametrize(("first", "second"), [("spam", OLD), (OLD, "spam"), ("spam", "spam"), (OLD, OLD)])
def test_a_journal_knows_its_task_by_name_and_id(
    calls: Any, client: Any, tmp_path: Path, first: str, second: str
) -> None:
    """One client runs and resumes by either, once it knows both."""
    output = tmp_path / "out.jsonl"
    if first == OLD:
        calls("execute", "spam", 1, client=client)
    assert _ran(calls, client, first, output, "new", 2).ok == 2
    summary = _ran(calls, client, second, output, "resume", 4)
    assert (summary.skipped, summary.ok) == (2, 2)


@pytest.mark.parametrize("looked_up", [False, True])
def test_a_journal_made_by_name_is_resumed_by_name(calls: Any, server: Server, tmp_path: Path, looked_up: bool) -> None:
    """By a client that has not looked it up yet too, whether the first one had or not."""
    output = tmp_path / "out.jsonl"
    client = calls.client(transport=server)
    if looked_up:
        calls("execute", "spam", 1, client=client)
    _ran(calls, client, "spam", output, "new", 2)
    assert _ran(calls, calls.client(transport=server), "spam", output, "resume", 4).skipped == 2


def test_a_journal_knows_the_clients_own_names(calls: Any, server: Server, tmp_path: Path) -> None:
    """What one client has in `tasks` another may look up."""
    output = tmp_path / "out.jsonl"
    _ran(calls, calls.client(transport=server, tasks={"spam": OLD}), "spam", output, "new", 2)
    assert _ran(calls, calls.client(transport=server), "spam", output, "resume", 4).skipped == 2
    assert _ran(calls, calls.client(transport=server), OLD, output, "resume", 4).ended == "finished_before"


def test_a_journal_of_another_task_is_refused(calls: Any, client: Any, server: Server, tmp_path: Path) -> None:
    """By its name, by its id, and where the task was made anew under its name."""
    output = tmp_path / "out.jsonl"
    calls("execute", "spam", 1, client=client)
    _ran(calls, client, "spam", output, "new", 2)
    server.names.update(ham=NEW)
    server.here.add(NEW)
    for other in ("ham", NEW):
        with pytest.raises(JournalError, match="its task is"):
            _ran(calls, client, other, output, "resume", 4)
    server.names.update(spam=NEW)
    fresh = calls.client(transport=server)
    calls("execute", "spam", 1, client=fresh)
    with pytest.raises(JournalError, match=f"its task is '{OLD}', this run's '{NEW}'"):
        _ran(calls, fresh, "spam", output, "resume", 4)


def test_a_stream_journal_knows_its_task_by_name_and_id(server: Server, tmp_path: Path) -> None:
    """As an output's journal does."""
    journal = tmp_path / "spam.journal"
    with SyncLoopaiClient(transport=server) as made:
        assert len(list(made.batch_stream("spam", [1, 2, 3], journal=journal, limit=1))) == 1
        assert len(list(made.batch_stream(OLD, [1, 2, 3], journal=journal))) == 2


@pytest.mark.parametrize("name", ["\ud800", "a\udcff"])
def test_a_name_that_is_no_text_is_refused(calls: Any, recorder: Any, name: str) -> None:
    """Before anything is sent, wherever names are taken."""
    for method, arguments in (("execute", (name, 1)), ("get_task_by_name", (name,)), ("get_task", (name,))):
        with pytest.raises(ValidationException, match="half of a surrogate pair"):
            calls(method, *arguments)
    with pytest.raises(ValidationException, match="must be text, not 5"):
        calls("get_task_by_name", 5)
    assert recorder.requests == []
