"""The embedded server answers each recorded request as the published one did, but where it is meant to differ."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the embedded server needs Python 3.10", allow_module_level=True)
pytest.importorskip("deno")

from starlette.testclient import TestClient

from loopai.local.app import create_app
from loopai.local.differences import DIFFERENCES, Difference
from loopai.local.settings import Settings

from .recordings import LINES, TASKS, Line, RecordedTask, replaced, shape


class World:
    """An embedded server, and what its ids are for the recorded ones."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.ids: dict[str, str] = {}
        self.refusals: dict[str, Any] = {}

    def prepare(self, line: Line) -> None:
        """Make what the line refers to: its task, with the program that the published server had for it."""
        if line.name.startswith("task.create") and line.status == 201:
            return
        told = f"{line.path} {(line.body or b'')[:5000].decode('utf-8', 'replace')}".lower()
        if line.name == "generate.fails" and line.environment == "Development":
            # The one task that no recorded line shows.
            self._make(RecordedTask(line.path.split("/")[4], "t-fails", None))
        for task in TASKS.values():
            if task.id not in self.ids and (task.id in told or uuid.UUID(task.id).hex in told or task.name in told):
                self._make(task)

    def _make(self, task: RecordedTask) -> None:
        made = {"name": task.name, "description": "d", "input_schema": {}, "output_schema": {}}
        reply = self.client.post("/api/v1/tasks", json=made)
        assert reply.status_code == 201, reply.text
        own = self.ids[task.id] = reply.json()["id"]
        if task.code is not None:
            program = {"code": task.code, "language": "typescript"}
            reply = self.client.post(f"/api/v1/tasks/{own}/artifacts", json=program)
            if reply.status_code != 201:
                self.refusals[task.id] = reply.json()

    def send(self, line: Line) -> Any:
        """Send the line's request with our ids."""
        body = line.body
        if body is not None and len(body) < 100_000:
            # What is not text is sent as it is: none of these names a task.
            with suppress(UnicodeDecodeError):
                body = replaced(body.decode(), self.ids).encode()
        elif body is not None:
            head = replaced(body[:200].decode(), self.ids).encode()
            body = head + body[200:]
        headers = {"content-type": "application/json"} if body is not None else {}
        headers.update(line.request_headers)
        if line.name == "task.create":
            # Earlier lines have made a task of this name.
            body = (body or b"").replace(b"spam-", f"spam-{uuid.uuid4().hex[:6]}-".encode(), 1)
        return self.client.request(
            line.method, replaced(line.path, self.ids), content=body, headers=headers, follow_redirects=False
        )


@pytest.fixture(scope="module")
def worlds() -> Iterator[dict[str, World]]:
    with (
        TestClient(create_app(Settings(environment="Production")), raise_server_exceptions=False) as production,
        TestClient(create_app(Settings(environment="Development")), raise_server_exceptions=False) as development,
    ):
        yield {"Production": World(production), "Development": World(development)}


def difference(line: Line) -> Difference | None:
    found = [each for each in DIFFERENCES if each.covers(line.name)]
    assert len(found) < 2, f"{line.name} stands in the table twice"
    return found[0] if found else None


def summary(status: int, body: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"status": status, "shape": shape(body)}
    if isinstance(body, dict):
        told["code"] = body.get("code")
        for member in ("errors", "details"):
            value = body.get(member)
            told[member] = sorted(value) if isinstance(value, dict) else type(value).__name__
            if isinstance(value, list):
                told[member] = sorted({name for item in value for name in item} if value else ())
    return told


def told_apart(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Ours and theirs where they differ, by the member of the summary or the path in the body."""
    found = {name: (ours.get(name), theirs.get(name)) for name in (ours.keys() | theirs.keys()) - {"shape"}}
    for path in ours["shape"].keys() | theirs["shape"].keys():
        found[path] = (ours["shape"].get(path), theirs["shape"].get(path))
    return {name: (mine, other) for name, (mine, other) in found.items() if mine != other}


def allowed(name: str, meant: Difference) -> bool:
    if name in {"status", "code"}:
        return True  # compared by value
    return "*" in meant.members or any(name.startswith(prefix) for prefix in meant.members)


@pytest.mark.parametrize("line", LINES, ids=[line.label for line in LINES])
def test_a_recorded_request_is_answered_the_same(worlds: dict[str, World], line: Line) -> None:
    """Status, code, the members of details and errors, and the members of the body and their types."""
    world = worlds[line.environment]
    if line.file == "limiter":
        check_limiter(line)
        return
    world.prepare(line)
    meant = difference(line)
    if line.name in {"program.syntax", "program.no_main", "program.declares_input"}:
        check_refusal(world, line)
        return
    reply = world.send(line)
    compare(line, meant, reply)
    if line.name == "task.delete":
        # It is made anew for the lines that follow.
        world.ids = {theirs: ours for theirs, ours in world.ids.items() if not reply.request.url.path.endswith(ours)}
    if line.file == "programs" and meant is None:
        check_program(line, reply.json())
    if line.name == "program.marker":
        assert (reply.json()["output"], line.json["output"]) == (1, 5)


def compare(line: Line, meant: Difference | None, reply: Any) -> None:
    body = reply.json() if reply.content and "json" in reply.headers.get("content-type", "") else None
    ours, theirs = summary(reply.status_code, body), summary(line.status, line.json)
    apart = told_apart(ours, theirs)
    if meant is None:
        assert apart == {}
        return
    assert reply.status_code == (line.status if meant.status is None else meant.status)
    if meant.code is not None and reply.content:
        assert ours["code"] == meant.code
    assert [name for name in apart if not allowed(name, meant)] == []
    assert apart or line.name == "program.marker", f"{line.name} is answered the same: take it out of the table"


def check_program(line: Line, ours: dict[str, Any]) -> None:
    """Status, output and message, where the message is the program's own and not what Deno wrote on stderr."""
    theirs = line.json
    assert ours["status"] == theirs["status"]
    assert ours.get("output") == theirs.get("output")
    told = theirs.get("error_message")
    if told is None or "\x1b" not in told:
        assert ours.get("error_message") == told
    else:
        assert "\n" not in ours["error_message"]
        assert "file:" not in ours["error_message"]


def check_refusal(world: World, line: Line) -> None:
    """Pushing it is refused, in one line that tells what the published server tells at each execution."""
    task = line.path.split("/")[-2]
    [refusal] = world.refusals[task]["details"]
    assert refusal["property_name"] == "Code"
    told = line.json["error_message"]
    assert refusal["error_message"] == told or ("\x1b" in told and "SyntaxError: " in refusal["error_message"])


def check_limiter(line: Line) -> None:
    """The request of that number in a minute, to a server with the published server's limit for the path."""
    number = int(line.name.rpartition(".")[2])
    settings = Settings(environment=line.environment, rate_limit=30 if line.method == "POST" else 60)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        world = World(client)
        world.prepare(line)
        for _ in range(number):
            reply = world.send(line)
    compare(line, difference(line), reply)
    if reply.status_code == 429:
        assert int(reply.headers["retry-after"]) > 0


def test_every_line_of_the_table_is_met() -> None:
    """No pattern names a request that is not recorded."""
    names = {line.name for line in LINES}
    for each in DIFFERENCES:
        for pattern in each.requests:
            assert any(fnmatchcase(name, pattern) for name in names), pattern


def test_the_guide_prints_the_table() -> None:
    """Line by line, in the same order."""
    guide = (Path(__file__).parents[2] / "docs" / "published-server.md").read_text(encoding="utf-8")
    printed = guide.partition("| what | published | embedded | why |\n|---|---|---|---|\n")[2].strip().splitlines()
    assert printed == [f"| {each.what} | {each.published} | {each.here} | {each.reason} |" for each in DIFFERENCES]
