"""A program runs at the edge as it runs on the server: results, errors and limits, by one suite over both."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Awaitable
from typing import Any, Callable

import pytest

from loopai import (
    CallInfo,
    ExecutionException,
    Hooks,
    LoopaiClient,
    NotFoundException,
    NotSupportedException,
    SyncLoopaiClient,
    ValidationException,
)
from loopai.models import WebhookEvent
from loopai.shell.edge import at_edge
from loopai.testing import FakeLoopai

from .conftest import Calls

pytestmark = pytest.mark.skipif(sys.version_info < (3, 10), reason="the sandbox needs Python 3.10")

Run = Callable[..., Awaitable[Any]]


@pytest.fixture(params=["remote", "edge"])
async def run(request: pytest.FixtureRequest, calls: Calls, task: Any) -> Run:
    """Executes the task's program, on the server or here."""
    if request.param == "remote":
        return lambda value, **options: calls.execute(task.id, value, **options)
    program = await calls.load_program(task.id)
    return lambda value, **options: asyncio.to_thread(program, value, **options)


async def test_results_are_the_same(run: Run, task: Any) -> None:
    """Output, status, version and program."""
    result = await run({"text": "claim your prize"})
    assert (result.status, result.output, result.version, result.task_id) == ("success", {"label": "spam"}, 1, task.id)
    assert result.program_id is not None
    assert result.execution_id is not None
    assert (await run({"text": "null"})).output is None


async def test_a_failed_program_is_the_same(run: Run) -> None:
    """The exception, its text and its result."""
    with pytest.raises(ExecutionException, match="asked to fail") as caught:
        await run({"text": "raise"})
    assert caught.value.message == "asked to fail"
    result = await run({"text": "raise"}, raise_on_error=False)
    assert (result.status, result.error_message) == ("error", "asked to fail")


async def test_limits_are_the_same(run: Run) -> None:
    """A program that hangs ends with the same words, and a limit out of range is refused with the same words."""
    result = await run({"text": "loop"}, timeout_ms=50, raise_on_error=False)
    assert result.error_message == "Execution timeout after 50ms"
    with pytest.raises(ValidationException) as caught:
        await run({"text": "x"}, timeout_ms=60001)
    assert caught.value.errors == {"timeout_ms": ["Timeout must be between 1 and 60000 milliseconds"]}


@pytest.mark.addition("checked inputs")
async def test_inputs_are_checked_the_same(run: Run) -> None:
    """An input against the schema is refused by its path, with the same text."""
    with pytest.raises(ValidationException) as caught:
        await run({"text": 5})
    assert caught.value.errors == {"input.text": ['5 is not of type "string"']}
    assert caught.value.code == "VALIDATION_ERROR"


@pytest.mark.addition("checked inputs")
async def test_many_are_the_same_as_a_batch(calls: Calls, task: Any) -> None:
    """`map` gives what a batch gives, item by item, and never raises for one."""
    texts: list[Any] = ["prize", "raise", "lunch", 7, "null"]
    program = await calls.load_program(task.id)
    here = await asyncio.to_thread(program.map, [{"text": text} for text in texts])
    there = await calls.batch_execute(task.id, [{"text": text} for text in texts])
    assert [(r.succeeded, r.output, r.error_message) for r in here] == [
        (r.success, r.output, r.error_message) for r in there.results
    ]


@pytest.mark.addition("pushing programs")
async def test_a_new_version_is_taken_up(calls: Calls, task: Any) -> None:
    """When looked for, when told by a webhook, and not where a version was asked for."""
    program = await calls.load_program(task.id, refresh_interval=None)
    pinned = await calls.load_program(task.id, 1)
    await calls.push_program(task.id, "def main(input):\n    return 'new'\n")
    refresh = program.refresh
    assert await refresh() if asyncio.iscoroutinefunction(refresh) else await asyncio.to_thread(refresh)
    assert program.version == 2
    assert (await asyncio.to_thread(program, {"text": "x"})).output == "new"
    assert (await asyncio.to_thread(pinned, {"text": "x"})).version == 1


@pytest.mark.addition("pushing programs")
async def test_a_webhook_tells_of_a_new_version(name: str, server_url: str) -> None:
    """The next call looks for it, and goes on with the version at hand meanwhile."""
    async with LoopaiClient(server_url) as client:
        task = await client.create_task(name, "d", {}, {})
        await client.push_program(task.id, "def main(input):\n    return 'old'\n")
        program = await client.load_program(task.id)
        await client.push_program(task.id, "def main(input):\n    return 'new'\n")
        event = {"id": str(uuid.uuid4()), "event_type": 2, "task_id": str(task.id), "timestamp": "2025-11-03T08:15:30Z"}
        program.notify(WebhookEvent.model_validate({**event, "task_id": str(uuid.uuid4())}))
        assert (await program.execute("x")).output == "old"
        program.notify(WebhookEvent.model_validate(event))
        assert program("x").output == "old"
        assert program.refreshing is not None
        assert await program.refreshing
        assert (await program.execute_many(["x"]))[0].output == "new"


async def test_what_cannot_run_here_says_so(calls: Calls, name: str) -> None:
    """No active program, and no such task."""
    made = await calls.create_task(name, "d", {}, {})
    with pytest.raises(NotFoundException, match="no active program"):
        await calls.load_program(made.id)
    with pytest.raises(NotFoundException):
        await calls.load_program(uuid.uuid4())


async def test_another_language_is_named() -> None:
    """A language that does not run here is run by the server."""
    fake = FakeLoopai()
    fake.task("spam").returns("x")
    client = fake.client()
    client.push_program("spam", "fn main() {}", "rust")
    with pytest.raises(NotSupportedException, match="written in rust, and only Python and TypeScript run at the edge"):
        client.load_program("spam")


TYPESCRIPT = """
interface Mail { text: string }
enum Label { Spam = "spam", Ham = "ham" }
export async function main(input: Mail): Promise<{label: Label} | null> {
  if (input.text === "raise") throw new Error("asked to fail");
  if (input.text === "loop") for (;;);
  if (input.text === "null") return null;
  return { label: input.text.includes("prize") ? Label.Spam : Label.Ham };
}
"""


@pytest.fixture
async def typescript(calls: Calls, task: Any) -> Any:
    """The task with the same program in TypeScript as its active version."""
    pytest.importorskip("deno")
    await calls.push_program(task.id, TYPESCRIPT, "typescript")
    return task


@pytest.mark.addition("pushing programs")
@pytest.mark.parametrize("where", ["remote", "edge"])
async def test_typescript_runs_as_python_does(calls: Calls, typescript: Any, where: str) -> None:
    """Values, failures, limits and checked inputs, on the embedded server and here."""
    program = await calls.load_program(typescript.id)
    assert (program.version, program.artifact.language) == (2, "typescript")

    async def run(text: Any, **options: Any) -> Any:
        if where == "edge":
            return await asyncio.to_thread(program, {"text": text}, **options)
        return await calls.execute(typescript.id, {"text": text}, **options)

    result = await run("claim your prize")
    assert (result.status, result.output, result.version) == ("success", {"label": "spam"}, 2)
    assert (await run("null")).output is None
    with pytest.raises(ExecutionException, match="asked to fail"):
        await run("raise")
    assert (await run("loop", timeout_ms=100, raise_on_error=False)).error_message == "Execution timeout after 100ms"
    with pytest.raises(ValidationException) as caught:
        await run(5)
    assert caught.value.errors == {"input.text": ['5 is not of type "string"']}


@pytest.mark.addition("pushing programs")
async def test_typescript_batches_are_the_same_at_the_edge(calls: Calls, typescript: Any) -> None:
    """`map`, a batch on the server, and a batch of a client at the edge, item by item."""
    texts: list[Any] = ["prize", "raise", "lunch", 7, "null"]
    program = await calls.load_program(typescript.id)
    here = await asyncio.to_thread(program.map, [{"text": text} for text in texts])
    there = await calls.batch_execute(typescript.id, [{"text": text} for text in texts])
    told = [(r.success, r.output, r.error_message) for r in there.results]
    assert [(r.succeeded, r.output, r.error_message) for r in here] == told
    if isinstance(calls.client, SyncLoopaiClient):
        edge = await Calls(at_edge(calls.client)).batch_execute(typescript.id, [{"text": text} for text in texts])
        assert [(r.success, r.output, r.error_message) for r in edge.results] == told


@pytest.mark.addition("pushing programs")
async def test_a_new_version_may_be_in_the_other_language(calls: Calls, typescript: Any) -> None:
    """A loaded program takes it up as any other version."""
    program = await calls.load_program(typescript.id, refresh_interval=None)
    await calls.push_program(typescript.id, "def main(input):\n    return 'python'\n")
    refresh = program.refresh
    assert await refresh() if asyncio.iscoroutinefunction(refresh) else await asyncio.to_thread(refresh)
    assert (await asyncio.to_thread(program, {"text": "x"})).output == "python"


@pytest.mark.addition("pushing programs")
@pytest.mark.parametrize(
    ("code", "language", "member", "told"),
    [
        ("function main( {", "typescript", "Code", "SyntaxError: "),
        ("const x = 1", "typescript", "Code", "main is not defined"),
        ("import x from 'npm:x'; function main() {}", "typescript", "Code", "programs cannot import modules"),
        ("fn main() {}", "rust", "Language", "write it in 'python' or 'typescript'"),
    ],
)
async def test_what_cannot_run_is_refused_when_pushed(
    calls: Calls, task: Any, code: str, language: str, member: str, told: str
) -> None:
    """By the member at fault."""
    pytest.importorskip("deno")
    with pytest.raises(ValidationException) as caught:
        await calls.push_program(task.id, code, language)
    assert told in caught.value.errors[member.lower()][0]


async def test_a_client_at_the_edge_runs_batches_here(calls: Calls, task: Any, server_url: str) -> None:
    """Same results as the server's batch, and no request for it; everything else goes on."""
    if not isinstance(calls.client, SyncLoopaiClient):
        pytest.skip("batches at the edge are synchronous")
    here = Calls(at_edge(calls.client))
    inputs = [{"text": text} for text in ("prize", "raise", "lunch", "null")]
    mine = await here.batch_execute(task.id, inputs)
    theirs = await calls.batch_execute(task.id, inputs)
    assert [(r.id, r.success, r.output, r.error_message) for r in mine.results] == [
        (r.id, r.success, r.output, r.error_message) for r in theirs.results
    ]
    assert (mine.success_count, mine.failure_count) == (3, 1)
    assert (await here.get_task(task.id)).name == task.name


async def test_rows_at_the_edge_are_rows(calls: Calls, task: Any) -> None:
    """A text or a mapping is refused; a DataFrame is taken row by row; a value that is not JSON fails alone."""
    program = await calls.load_program(task.id)
    ways = [program.map] + ([program.execute_many] if hasattr(program, "execute_many") else [])
    for way in ways:

        async def run(rows: Any, way: Any = way, **options: Any) -> Any:
            made = way(rows, **options)
            return await made if asyncio.iscoroutine(made) else made

        for rows in ("prize", b"prize", {"text": "prize"}):
            with pytest.raises(ValidationException, match="must be rows"):
                await run(rows)
        mixed = await run([{"text": "prize"}, {"text": float("nan")}, {"text": "hello"}])
        assert [result.status for result in mixed] == ["success", "error", "success"]
        assert "text" in mixed[1].error_message
        frame = pytest.importorskip("pandas").DataFrame({"text": ["prize", "hello"]})
        assert [result.output["label"] for result in await run(frame)] == ["spam", "ham"]


@pytest.mark.addition("pushing programs")
def test_a_client_at_the_edge_keeps_options_hooks_and_connections(name: str, server_url: str) -> None:
    """It is a client like any other: with the first one's names, key and hooks, whose connections stay open."""

    class Heard(Hooks):
        def call_started(self, call: CallInfo) -> None:
            heard.append(call.operation)

    heard: list[str] = []
    with SyncLoopaiClient(server_url) as owner:
        task = owner.create_task(name, "d", {}, {})
        owner.push_program(task.id, "def main(input):\n    return input['text']\n")
    options: dict[str, Any] = {"timeout": 7, "max_retries": 0, "tasks": {"spam": task.id}, "headers": {"x-team": "ml"}}
    with SyncLoopaiClient(server_url, "key", hooks=[Heard()], **options) as client:
        with at_edge(client) as here:
            assert here.get_task("spam").id == task.id
            assert here.batch_execute("spam", [{"text": "lunch"}]).results[0].output == "lunch"
            kept = {**vars(client.config), "transport": here.transport, "sources": here.config.sources}
            assert vars(here.config) == kept
        assert client.get_task("spam").id == task.id
    assert heard.count("batch_execute") == 1
