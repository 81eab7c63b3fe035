"""`FakeLoopai` under the real clients: what a test programs, what it reads afterwards, what is refused."""

from __future__ import annotations

import asyncio
import doctest
import gc
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any
from uuid import UUID, uuid4

import pydantic
import pytest

import loopai
from loopai import (
    ConflictException,
    ConnectionException,
    ExecutionException,
    LoopaiClient,
    LoopaiException,
    NotFoundException,
    RateLimitException,
    ServerException,
    SyncLoopaiClient,
    TimeoutException,
    ValidationException,
    testing,
)
from loopai.testing import FakeLoopai, NotProgrammed, ProgramError
from loopai.transports import AsyncTransport, Transport


class Verdict(pydantic.BaseModel):
    label: str


@pytest.fixture
def fake() -> FakeLoopai:
    return FakeLoopai()


def test_the_example_in_the_docs_runs() -> None:
    """The package's own example gives what it says."""
    found = doctest.testmod(testing)
    assert found.attempted
    assert not found.failed


def test_it_is_a_transport_of_both_kinds(fake: FakeLoopai) -> None:
    """One object stands in wherever a client takes a transport."""
    assert isinstance(fake, Transport)
    assert isinstance(fake, AsyncTransport)


async def test_both_clients_get_what_was_programmed(fake: FakeLoopai) -> None:
    """A task's output comes through the real client, sync and async, by the task's name, its id, or a bound type."""
    fake.task("spam").returns(Verdict(label="spam"))
    with SyncLoopaiClient(transport=fake) as client:
        result = client.execute("spam", {"text": "prize"}, version=3, timeout_ms=50, force_validation=True)
        assert client.bind("spam", input=dict, output=Verdict)({"text": "x"}) == Verdict(label="spam")
    assert (result.output, result.status, result.version, result.sampled_for_validation) == (
        {"label": "spam"}, "success", 3, True,
    )  # fmt: skip
    async with LoopaiClient(transport=fake) as async_client:
        assert (await async_client.execute(fake.task("spam").id, 1)).output == {"label": "spam"}
        batch = await async_client.batch_execute("spam", ["a", "b"])
    assert [row.output for row in batch.results] == [{"label": "spam"}] * 2
    assert fake.calls[0] == testing.Call("spam", {"text": "prize"}, 3, 50, True)
    assert fake.calls[-1] == testing.Call("spam", "b", item_id="1")
    assert fake.task("spam").inputs == [{"text": "prize"}, {"text": "x"}, 1, "a", "b"]
    assert (fake.task("spam").call_count, len(fake.requests)) == (5, 6)


def test_a_task_may_be_programmed_by_the_id_that_settings_hold(fake: FakeLoopai) -> None:
    """Code that knows only the id meets the same task."""
    task_id = uuid4()
    fake.task(task_id).returns("by id")
    fake.task("spam").returns("by name")
    with fake.client(tasks={"mine": task_id, "spam": uuid4()}) as client:
        assert client.execute("mine", None).output == "by id"
        assert client.execute(task_id, None).output == "by id"
        # The fake's own id for the name comes before the one in the settings.
        assert client.execute("spam", None).output == "by name"


async def test_coalesced_calls_are_answered_each_with_its_own(fake: FakeLoopai) -> None:
    """With `coalesce=True` the fake gets batches, and each caller its own output."""
    fake.task("double").computes(lambda number: number * 2)
    async with fake.async_client(coalesce=True) as client:
        results = await asyncio.gather(*(client.execute("double", number) for number in range(9)))
    assert [result.output for result in results] == [number * 2 for number in range(9)]
    assert [request.method for request in fake.requests] == ["GET", "POST"]


async def test_a_program_that_fails_is_no_http_error(fake: FakeLoopai) -> None:
    """`fails` ends an execution with its text, and only that row of a batch."""
    fake.task("broken").fails("KeyError: 'subject'")
    with fake.client() as client:
        with pytest.raises(ExecutionException, match="KeyError: 'subject'") as caught:
            client.execute("broken", {})
        assert caught.value.status_code == 200
        assert client.execute("broken", {}, raise_on_error=False).error_message == "KeyError: 'subject'"

    def odd_only(number: int) -> int:
        if number % 2 == 0:
            raise ProgramError("even")
        return number

    fake.task("odd").computes(odd_only)
    async with fake.async_client() as async_client:
        batch = await async_client.batch_execute("odd", [1, 2, 3])
    assert [(row.success, row.output, row.error_message) for row in batch.results] == [
        (True, 1, None), (False, None, "even"), (True, 3, None),
    ]  # fmt: skip
    assert (batch.success_count, batch.failure_count, batch.total_items) == (2, 1, 3)


def test_an_exception_of_the_test_s_own_function_goes_through(fake: FakeLoopai) -> None:
    """A mistake in `computes` is not taken for a failing program."""
    fake.task("spam").computes(lambda given: given["subject"])
    with fake.client() as client, pytest.raises(KeyError, match="subject"):
        client.execute("spam", {})


def test_outputs_in_turn(fake: FakeLoopai) -> None:
    """`returns_each` gives one after the other, failures among them, and says so when it has no more."""
    fake.task("spam").returns_each(["a", ProgramError("b"), None])
    with fake.client(raise_on_error=False) as client:
        assert [client.execute("spam", n).output for n in range(3)] == ["a", None, None]
        with pytest.raises(NotProgrammed, match="more often than the 3 outputs"):
            client.execute("spam", 3)


def test_an_output_is_what_it_was_when_programmed(fake: FakeLoopai) -> None:
    """Changing the object afterwards, or the one that came back, changes no later answer."""
    output = {"labels": ["spam"]}
    fake.task("spam").returns(output)
    output["labels"].append("changed")
    with fake.client() as client:
        client.execute("spam", None).output["labels"].append("changed")
        assert client.execute("spam", None).output == {"labels": ["spam"]}


def test_a_record_is_what_was_sent(fake: FakeLoopai) -> None:
    """A program that changes its input, and a test that changes a record, change no other record."""
    fake.task("spam").computes(lambda given: given.pop("text"))
    with fake.client() as client:
        assert client.execute("spam", {"text": "prize"}).output == "prize"
    fake.calls[0].input.clear()
    assert fake.task("spam").inputs == [{"text": "prize"}]


def test_records_are_few_objects(fake: FakeLoopai) -> None:
    """However many rows a test sends, its garbage collector looks through no more objects."""
    fake.task("spam").returns(1)

    def objects_after(rows: int) -> int:
        with fake.client() as client:
            assert sum(outcome.ok for outcome in client.batch_stream("spam", ({"n": n} for n in range(rows)))) == rows
        gc.collect()
        return len(gc.get_objects())

    objects_after(100)
    before = objects_after(100)
    assert objects_after(3_000) - before < 1_000
    assert fake.task("spam").call_count == 3_200


def test_an_output_that_json_cannot_say_is_refused_where_it_is_written(fake: FakeLoopai) -> None:
    """The line that programs it raises, not a later call."""
    with pytest.raises(ValueError, match="serialize"):
        fake.task("spam").returns(object())


def test_an_unprogrammed_task_fails_the_test_whatever_the_code_catches(fake: FakeLoopai) -> None:
    """The error is no `LoopaiException`, names the task, and says what to write."""
    forgotten = uuid4()
    with fake.client(tasks={"ham": forgotten}) as client:
        for run in (
            lambda: client.execute("ham", 1),
            lambda: client.batch_execute("ham", [1]),
            lambda: client.execute(forgotten, 1),
            lambda: client.with_options(coalesce=True).execute("ham", 1),
        ):
            with pytest.raises(NotProgrammed, match=r"write fake\.task\(.*\)\.returns") as caught:
                run()
            assert not isinstance(caught.value, LoopaiException)
        fake.task("ham")
        with pytest.raises(NotProgrammed, match="task 'ham' was run"):
            client.execute("ham", 1)


async def test_a_task_that_the_server_does_not_have(fake: FakeLoopai) -> None:
    """`is_unknown` gives the server's own answers: 404, failed rows with a code, no artifacts."""
    fake.task("gone").is_unknown()
    async with fake.async_client() as client:
        with pytest.raises(NotFoundException) as missing:
            await client.get_task("gone")
        assert (missing.value.code, missing.value.status_code) == ("TASK_NOT_FOUND", 404)
        with pytest.raises(NotFoundException, match="not found"):
            await client.execute("gone", 1)
        batch = await client.batch_execute("gone", [1])
        assert "not found" in str(batch.results[0].error_message)
        assert (batch.results[0].execution_id, batch.results[0].code) == (None, "TASK_NOT_FOUND")
        assert await client.list_artifacts("gone") == []
        with pytest.raises(NotFoundException, match="not found"):
            await client.push_program("gone", "def main(input): return 1")
        with pytest.raises(ValidationException, match="No active program"):
            await client.start_canary("gone", uuid4())
        fake.task("gone").returns("back")
        assert (await client.execute("gone", 1)).output == "back"


# Faults


def test_faults_come_first_and_then_the_answer(fake: FakeLoopai) -> None:
    """The client's own retries get past them, without a pause; every attempt is on record."""
    fake.task("spam").raises(503, times=2, retry_after=60).unreachable(times=1).returns("ok")
    with fake.client() as client:
        result = client.execute("spam", 1)
    assert result.output == "ok"
    assert result.reply is not None
    assert (result.reply.attempts, len(fake.requests), fake.task("spam").call_count) == (4, 5, 1)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, ValidationException), (404, NotFoundException), (409, ConflictException), (429, RateLimitException),
     (500, ExecutionException), (503, ServerException)],
)  # fmt: skip
def test_a_status_becomes_the_exception_it_is(fake: FakeLoopai, status: int, kind: type[LoopaiException]) -> None:
    """`raises` goes on until `recovers`."""
    fake.task("spam").returns("ok").raises(status, message="as told")
    with fake.client(max_retries=1) as client:
        for _ in range(2):
            with pytest.raises(kind, match="as told") as caught:
                client.execute("spam", 1)
            assert caught.value.status_code == status
        fake.task("spam").recovers()
        assert client.execute("spam", 1).output == "ok"


async def test_errors_by_field_retry_after_and_timeouts_reach_the_caller(fake: FakeLoopai) -> None:
    """The parts of an error that code reacts to can be programmed."""
    async with fake.async_client(max_retries=0) as client:
        fake.operation("create_task").raises(400, errors={"name": ["is taken", "is long"]}, times=1)
        with pytest.raises(ValidationException) as invalid:
            await client.create_task("t", "d", {}, {})
        assert invalid.value.errors == {"name": ["is taken", "is long"]}
        assert (await client.create_task("t", "d", {}, {})).name == "t"
        fake.rate_limits(times=1, retry_after=7)
        with pytest.raises(RateLimitException) as limited:
            await client.get_health()
        assert limited.value.retry_after == 7
        fake.times_out(times=1)
        with pytest.raises(TimeoutException):
            await client.get_health()
        fake.unreachable(times=1)
        with pytest.raises(ConnectionException) as refused:
            await client.get_health()
        assert isinstance(refused.value.original_exception, ConnectionRefusedError)
        assert (await client.get_health()).status == "healthy"


def test_a_reply_lost_on_the_way_back_is_not_repeated_where_that_is_forbidden(fake: FakeLoopai) -> None:
    """`arrived=True` is the fault for which `retry_unknown=False` exists."""
    fake.task("spam").returns(1).unreachable(times=1, arrived=True)
    with fake.client(retry_unknown=False) as client, pytest.raises(ConnectionException):
        client.execute("spam", 1)
    assert [request.method for request in fake.requests] == ["GET", "POST"]


@pytest.mark.parametrize(
    "wrong", [lambda f: f.raises(200), lambda f: f.raises(500, times=0), lambda f: f.operation("x")]
)
def test_programming_that_means_nothing_is_refused(fake: FakeLoopai, wrong: Any) -> None:
    """A success that is raised, a fault for no request, an operation nobody has."""
    with pytest.raises(ValueError, match=r"not an error|counts from 1|no operation 'x'"):
        wrong(fake)


def test_a_coroutine_function_is_no_program(fake: FakeLoopai) -> None:
    """It would give a coroutine as output; the error says to pass a plain function."""

    async def program(_: Any) -> int:
        return 1

    with pytest.raises(TypeError, match="plain function"):
        fake.task("spam").computes(program)


# The rest of the server


def test_tasks_and_programs_are_kept(fake: FakeLoopai) -> None:
    """What the code under test creates can be read back, and created but once."""
    fake.task("spam").returns("ok")
    with fake.client() as client:
        created = client.create_task("spam", "Spam or not", {"type": "object"}, {}, accuracy_target=0.95)
        assert client.execute(created.id, 1).output == "ok"
        assert client.push_program("spam", "def main(input): return 1", activate=False).status == "draft"
        active = client.push_program("spam", "def main(input): return 2")
        read = client.get_task("spam")
        assert (read.accuracy_target, read.active_version, read.total_versions) == (0.95, 2, 2)
        assert (read.created_at, client.get_task_by_name("spam").id) == (created.created_at, created.id)
        assert [task.name for task in client.list_tasks()] == ["spam"]
        assert [program.version for program in client.list_artifacts("spam")] == [1, 2]
        assert client.get_artifact("spam", 2) == active
        assert client.execute("spam", 1).program_id == active.id
        with pytest.raises(NotFoundException, match="version 3"):
            client.get_artifact("spam", 3)
        with pytest.raises(ConflictException, match="'spam' already exists"):
            client.create_task("spam", "again", {}, {})
        with pytest.raises(NotFoundException, match="name 'ham'"):
            client.get_task_by_name("ham")


def test_canaries_go_through_their_stages(fake: FakeLoopai) -> None:
    """Start, progress to the end, start another, take it back."""
    fake.task("spam").returns(1)
    with fake.client() as client:
        new = uuid4()
        assert client.get_canary("spam") is None
        canary = client.start_canary("spam", new)
        assert (canary.current_stage, canary.status, canary.new_program_id) == ("Stage1_5Percent", "InProgress", new)
        with pytest.raises(ValidationException, match="already in progress"):
            client.start_canary("spam", new)
        assert client.get_canary("spam") == canary
        shares = [client.progress_canary(canary.id).current_percentage for _ in range(3)]
        assert shares == [0.25, 0.5, 1.0]
        with pytest.raises(ValidationException, match="status: Completed"):
            client.progress_canary(canary.id)
        back = client.rollback_canary(client.start_canary("spam", new).id, "slow")
        assert (back.status, back.status_reason, back.history[-1].action) == ("RolledBack", "slow", "rolled_back")
        for call in (client.progress_canary, lambda unknown: client.rollback_canary(unknown, "x")):
            with pytest.raises(ValidationException, match="not found"):
                call(uuid4())


def test_subscriptions_are_kept(fake: FakeLoopai) -> None:
    """Subscribe, list, end; ending twice is not found."""
    with fake.client() as client:
        made = client.subscribe_webhook("https://app.test/hook", ["canaryRollback"], secret="s")
        assert client.list_webhooks() == [made]
        assert client.get_webhook_history(made.id) == []
        client.unsubscribe_webhook(made.id)
        assert client.list_webhooks() == []
        with pytest.raises(NotFoundException) as caught:
            client.unsubscribe_webhook(made.id)
        assert caught.value.code == "SUBSCRIPTION_NOT_FOUND"


async def test_every_other_operation_has_an_answer_and_can_be_given_another(fake: FakeLoopai) -> None:
    """Nothing programmed is what a new server says; `replies` says anything else, errors of proxies included."""
    program = uuid4()
    async with fake.async_client(max_retries=0) as client:
        assert (await client.get_ready()).ready
        assert (await client.get_live()).status == "alive"
        assert (await client.get_plain_health()).status == "healthy"
        assert set((await client.get_detailed_health()).components) == {"api", "database", "redis"}
        assert "loopai_fake_inputs_total 0" in await client.get_metrics()
        assert (await client.get_validation_summary(program)).statistics.total_validations == 0
        assert not (await client.get_recommendations(program)).should_improve
        assert (await client.compare_programs(program, uuid4())).recommendation == "continue"
        with pytest.raises(ValidationException, match="improvement not needed"):
            await client.improve_program(program)
        rows = [{"id": "a", "input": 1, "output": 1, "expected_output": given} for given in (1, 1.0)]
        assert (await client.batch_validate(uuid4(), rows)).accuracy_rate == 0.5
        fake.operation("get_ready").replies({"status": "not_ready", "database": False}, status=503)
        assert not (await client.get_ready()).ready
        fake.operation("improve_program").replies({"success": True, "new_version": 2, "new_program_id": program})
        assert (await client.improve_program(program)).new_version == 2
        fake.operation("get_health").replies(b"<html>Bad Gateway</html>", status=502)
        with pytest.raises(ServerException, match="502"):
            await client.get_health()


def test_bodies_have_exactly_the_members_of_the_wire_contract(fake: FakeLoopai) -> None:
    """A success has an output, a failure a message, neither a null."""
    fake.task("spam").returns(None)
    fake.task("broken").fails("no")
    always = {"execution_id", "task_id", "program_id", "version", "status", "latency_ms", "sampled_for_validation"}
    with fake.client(raise_on_error=False) as client:
        ran, failed = (client.execute(name, 1).model_dump(mode="json") for name in ("spam", "broken"))
        assert set(ran) == always | {"executed_at", "output"}
        assert set(failed) == always | {"executed_at", "error_message"}
        row = client.batch_execute("broken", [1]).model_dump(mode="json")["results"][0]
        assert set(row) == {"id", "execution_id", "success", "error_message", "latency_ms", "sampled_for_validation"}


def test_an_address_with_a_path_of_its_own(fake: FakeLoopai) -> None:
    """Behind a gateway the server's paths have another path in front."""
    fake.task("spam").returns(1)
    with fake.client(base_url="https://gateway.test/ai/loopai") as client:
        assert client.execute("spam", 1).output == 1
        assert client.get_plain_health().status == "healthy"
    assert fake.requests[0].url.startswith("https://gateway.test/ai/loopai/api/v1/tasks/")


def test_a_path_that_no_server_has_is_not_found(fake: FakeLoopai) -> None:
    """As the real one, 404 and an empty body."""
    answer = fake.send(loopai.transports.Request("GET", "http://fake.loopai.test/api/v1/nowhere", {}, b""))
    assert isinstance(answer, loopai.transports.Reply)
    assert (answer.status, answer.content) == (404, b"")


def test_time_is_handed_in() -> None:
    """With a clock of the test's own, replies carry its time."""
    moment = datetime(2025, 11, 3, 8, 15, 30, tzinfo=timezone.utc)
    fake = FakeLoopai(now=lambda: moment)
    fake.task("spam").returns(1)
    with fake.client() as client:
        assert client.execute("spam", 1).executed_at == moment


def test_reset_forgets_everything(fake: FakeLoopai) -> None:
    """After `reset` the fake is as new, and serves the clients it had."""
    with fake.client(max_retries=0) as client:
        fake.task("spam").returns(1)
        fake.unreachable().operation("get_health").raises(500)
        with pytest.raises(ConnectionException):
            client.execute("spam", 1)
        fake.reset()
        assert (fake.requests, fake.calls, dict(fake.tasks)) == ([], [], {})
        assert client.get_health().status == "healthy"


def test_ids_of_names_are_the_same_everywhere() -> None:
    """Two fakes, or two processes, mean the same task by a name; a UUID is its own."""
    assert FakeLoopai().task("spam").id == FakeLoopai().tasks["spam"] == "e82241b9-2dc5-5d37-a139-8ac1e41d3b36"
    assert UUID(FakeLoopai().task("spam").id).version == 5
    assert FakeLoopai().task("7F1C2A34-5B6D-4E7F-8A90-1B2C3D4E5F60").id == "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"


def test_one_fake_in_many_threads_and_loops(fake: FakeLoopai) -> None:
    """Programs run side by side, in the callers' threads; nothing is lost from the record."""
    together = threading.Barrier(4, timeout=20)

    def meet(number: int) -> int:
        together.wait()
        return number

    fake.task("meet").computes(meet)

    async def run_async(number: int) -> Any:
        async with fake.async_client() as client:
            return (await client.execute("meet", number)).output

    def run(number: int) -> Any:
        if number % 2:
            return asyncio.run(run_async(number))
        with fake.client() as client:
            return client.execute("meet", number).output

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(run, range(40))) == list(range(40))
    assert sorted(fake.task("meet").inputs) == list(range(40))


async def test_a_call_may_be_cancelled(fake: FakeLoopai) -> None:
    """The fake gives way to other tasks once a request, as a transport does."""
    fake.task("spam").returns(1)
    async with fake.async_client() as client:
        call = asyncio.ensure_future(client.execute("spam", 1))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert fake.calls == []


def test_what_the_code_under_test_sent_can_be_read(fake: FakeLoopai) -> None:
    """`requests` has each request with its body and headers; its repr shows no key."""
    fake.task("spam").returns(1)
    with fake.client(api_key="top-key") as client:
        client.execute("spam", {"text": "x"})
    looked_up, request = fake.requests
    assert looked_up.url.endswith("/artifacts")
    assert json.loads(request.content)["input"] == {"text": "x"}
    assert request.headers["authorization"] == "Bearer top-key"
    assert "top-key" not in repr(fake.requests)
    assert repr(fake) == "<FakeLoopai tasks=1 requests=2>"
    assert repr(fake.operation("get_ready")) == "<FakeOperation 'get_ready'>"
