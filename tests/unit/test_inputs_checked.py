"""`validate_inputs=True`: inputs are checked by their task's schema before they are sent, and wrong ones are not."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from typing import Any, Optional

import pytest
from pydantic import BaseModel

from loopai import CallInfo, ConfigurationError, Hooks, SyncLoopaiClient, ValidationException
from loopai._core.checking import FAILURE_SECONDS, QUICK_BYTES, SCHEMA_SECONDS, InputSchemas, checked
from loopai._core.flow import Given, Policy, Steps, Wanted
from loopai._core.operations import Operation, execute
from loopai._core.wire import Answer, Reply, Request
from loopai.exceptions import ConnectionException, NotFoundException, TimeoutException
from loopai.models import Task
from loopai.performers import ThreadPerformer
from loopai.testing import FakeLoopai

pytest.importorskip("jsonschema_rs")

TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"
SCHEMA = {
    "type": "object",
    "required": ["text"],
    "properties": {"text": {"type": "string", "minLength": 2}, "day": {"type": "string"}},
    "additionalProperties": False,
}
GOOD, SHORT, LACKING = {"text": "lunch"}, {"text": "a"}, {"day": "today"}


class Mail(BaseModel):
    text: str
    day: date


class Face:
    """One face for both clients over a fake, whose task `spam` has `SCHEMA` and gives the length of the text."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.fake = FakeLoopai()
        self.task = self.fake.task("spam").takes(SCHEMA).computes(lambda value: len(value["text"]))
        self.client = self.made(validate_inputs=True)

    def made(self, **options: Any) -> Any:
        return self.fake.client(**options) if self.kind == "sync" else self.fake.async_client(**options)

    def __call__(self, name: str, *args: Any, client: Any = None, **options: Any) -> Any:
        value = getattr(client or self.client, name)(*args, **options)
        return asyncio.run(value) if asyncio.iscoroutine(value) else value

    def stream(self, rows: Any, **options: Any) -> list[Any]:
        outcomes = self.client.batch_stream("spam", rows, **options)
        if self.kind == "sync":
            return list(outcomes)

        async def listed() -> list[Any]:
            return [outcome async for outcome in outcomes]

        return asyncio.run(listed())

    def sent(self, method: str) -> list[Request]:
        """Requests, without the look-up before a first execution."""
        made = [request for request in self.fake.requests if not request.url.endswith("/artifacts")]
        return [request for request in made if request.method == method]


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


def test_a_wrong_input_raises_and_costs_no_request(face: Face) -> None:
    """With the paths, as a server that checks would say it; the schema alone was fetched."""
    with pytest.raises(ValidationException) as caught:
        face("execute", "spam", {**SHORT, "more": 1})
    error = caught.value
    assert type(error) is ValidationException
    assert list(error.errors) == ["input.text", "input"]
    assert "shorter than 2" in error.errors["input.text"][0]
    assert (error.code, error.status_code) == ("VALIDATION_ERROR", 400)
    assert face.sent("POST") == []


def test_a_right_input_runs_and_the_schema_is_fetched_once(face: Face) -> None:
    """For all calls of a client and of its copies."""
    for value in (GOOD, Mail(text="lunch", day=date(2026, 1, 2)), {"text": "lunch", "day": date(2026, 1, 2)}):
        assert face("execute", "spam", value).output == 5
    face("execute", "spam", GOOD, client=face.client.with_options(timeout=5))
    assert (len(face.sent("GET")), len(face.sent("POST"))) == (1, 4)


def test_without_the_option_nothing_is_fetched_or_checked(face: Face) -> None:
    """It is off by default, and a copy may have it alone."""
    plain = face.made()
    assert face("execute", "spam", SHORT, client=plain).output == 1
    assert face.sent("GET") == []
    with pytest.raises(ValidationException):
        face("execute", "spam", SHORT, client=plain.with_options(validate_inputs=True))
    assert face("execute", "spam", SHORT, client=face.client.with_options(validate_inputs=False)).output == 1


def test_a_bound_task_is_checked(face: Face) -> None:
    """Its type may allow more than the schema of the task."""
    bound = face.client.bind("spam", input=dict[str, str], output=int)

    async def called() -> None:
        await bound(SHORT)

    with pytest.raises(ValidationException, match=r"input\.text"):
        bound(SHORT) if face.kind == "sync" else asyncio.run(called())
    assert face.sent("POST") == []


def test_items_of_a_batch_that_do_not_fit_are_results(face: Face) -> None:
    """As the embedded server gives them, in their places; the others are sent."""
    reply = face("batch_execute", "spam", [GOOD, SHORT, LACKING, {"text": "dinner"}])
    assert [item.output for item in reply.results] == [5, None, None, 6]
    assert [item.id for item in reply.results] == ["0", "1", "2", "3"]
    assert [item.code for item in reply.results] == [None, "VALIDATION_ERROR", "VALIDATION_ERROR", None]
    assert reply.results[2].error_message == 'input.text: "text" is a required property'
    assert (reply.total_items, reply.success_count, reply.failure_count) == (4, 2, 2)
    assert face.task.inputs == [GOOD, {"text": "dinner"}]


def test_a_batch_without_an_item_that_fits_is_not_sent(face: Face) -> None:
    """Nor does it raise: each item says what is wrong."""
    reply = face("batch_execute", "spam", [SHORT, LACKING])
    assert [item.success for item in reply.results] == [False, False]
    assert str(reply.task_id) == face.task.id
    assert face.sent("POST") == []


def test_ids_of_an_advanced_batch_may_repeat(face: Face) -> None:
    """Items go by their places."""
    items = [{"id": "a", "input": value} for value in (SHORT, GOOD, SHORT)]
    reply = face("batch_execute_advanced", task_id="spam", items=items)
    assert [(item.id, item.success) for item in reply.results] == [("a", False), ("a", True), ("a", False)]


def test_nothing_is_sent_after_a_wrong_item_that_stops_the_batch(face: Face) -> None:
    """With `stop_on_first_error`; what stands before it runs."""
    items = [{"id": str(place), "input": value} for place, value in enumerate((GOOD, SHORT, GOOD))]
    reply = face("batch_execute_advanced", task_id="spam", items=items, stop_on_first_error=True)
    assert [item.code for item in reply.results] == [None, "VALIDATION_ERROR", "SKIPPED"]
    assert face.task.inputs == [GOOD]


def test_a_row_that_does_not_fit_ends_alone(face: Face) -> None:
    """As one that the embedded server's check refuses, unsent; the others of its request run."""
    outcomes = {outcome.key: outcome for outcome in face.stream([GOOD, SHORT, LACKING, {"text": "dinner"}])}
    assert [outcomes[key].status for key in "1234"] == ["ok", "error", "error", "ok"]
    assert (outcomes["2"].code, outcomes["2"].attempts) == ("program", 0)
    assert outcomes["2"].error == 'input.text: "a" is shorter than 2 characters'
    assert face.task.inputs == [GOOD, {"text": "dinner"}]
    assert len(face.sent("GET")) == 1


def test_rows_that_do_not_fit_count_towards_max_errors(face: Face) -> None:
    """The run stops as after failures of the program."""
    outcomes = face.stream([SHORT] * 50, max_errors=3, chunk_size=2, max_in_flight=1)
    assert [outcome.status for outcome in outcomes] == ["error"] * 4
    assert face.sent("POST") == []


def test_a_run_whose_mapping_lacks_a_member_ends_at_once(face: Face) -> None:
    """As where the server says so: no row fails for it."""
    with pytest.raises(ValidationException, match="the mapping makes day"):
        face.stream([{"when": "today"}] * 3, mapping=["day=when"])
    assert face.sent("POST") == []


@pytest.mark.parametrize("values", [[GOOD, SHORT, {"text": "dinner"}], [SHORT, LACKING]])
def test_of_coalesced_calls_only_the_wrong_ones_raise(values: list[Any]) -> None:
    """Each caller learns of its own input."""
    face = Face("async")
    client = face.made(validate_inputs=True, coalesce=True)

    async def together() -> list[Any]:
        return await asyncio.gather(*(client.execute("spam", value) for value in values), return_exceptions=True)

    ended = asyncio.run(together())
    for value, end in zip(values, ended):
        if value in (SHORT, LACKING):
            assert isinstance(end, ValidationException)
            assert list(end.errors) == ["input.text"]
        else:
            assert end.output == len(value["text"])
    assert len(face.sent("POST")) == (1 if GOOD in values else 0)


def test_a_coalesced_call_of_a_thread_raises() -> None:
    """A group of one is no other than a group of many."""
    face = Face("sync")
    with pytest.raises(ValidationException):
        face("execute", "spam", SHORT, client=face.made(validate_inputs=True, coalesce=True))


def test_simultaneous_first_calls_fetch_one_schema() -> None:
    """The others wait for it."""
    face = Face("async")

    async def together() -> None:
        await asyncio.gather(*(face.client.execute("spam", GOOD) for _ in range(20)))

    asyncio.run(together())
    assert (len(face.sent("GET")), len(face.sent("POST"))) == (1, 20)


def test_threads_that_start_together_fetch_one_schema() -> None:
    """Whichever comes first."""
    face, start = Face("sync"), threading.Barrier(8)

    def call(number: int) -> Any:
        start.wait()
        return face.client.execute("spam", {"text": "x" * (number + 2)}).output

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(call, range(8))) == list(range(2, 10))
    assert (len(face.sent("GET")), len(face.sent("POST"))) == (1, 8)


def test_hooks_see_the_fetch_as_a_call_of_its_own(face: Face) -> None:
    """And a refused input as none: nothing was sent for it."""

    class Heard(Hooks):
        def __init__(self) -> None:
            self.names: list[str] = []

        def call_started(self, call: CallInfo) -> None:
            self.names.append(call.operation)

    heard = Heard()
    client = face.made(validate_inputs=True, hooks=[heard])
    face("execute", "spam", GOOD, client=client)
    with pytest.raises(ValidationException):
        face("execute", "spam", SHORT, client=client)
    assert heard.names == ["get_task", "list_artifacts", "execute"]


def test_the_deadline_holds_for_the_fetch_and_the_call(face: Face) -> None:
    """What the one takes, the other has not."""
    now = [1000.0]
    answer = face.fake.send

    def slow(request: Request) -> Answer:
        now[0] += 3 if request.method == "GET" and not request.url.endswith("/artifacts") else 0
        return answer(request)

    face.fake.send = slow  # type: ignore[method-assign]  # a transport like any other
    client = face.made(validate_inputs=True, deadline=5)
    client._policy = replace(client._policy, clock=lambda: now[0])
    face("execute", "spam", GOOD, client=client)
    (sent,) = face.sent("POST")
    assert sent.queue_timeout == 2
    face.fake.reset()
    face.fake.task("spam").takes(SCHEMA).returns(1)
    late = face.made(validate_inputs=True, deadline=2)
    late._policy = replace(late._policy, clock=lambda: now[0])
    with pytest.raises(TimeoutException, match="deadline of 2 s"):
        face("execute", "spam", GOOD, client=late)


def test_a_schema_that_cannot_be_fetched_lets_the_call_through(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    """Unchecked, with one attempt and one warning; the call has its own word on what is wrong with the server."""
    face.fake.operation("get_task").raises(503)
    for _ in range(3):
        assert face("execute", "spam", SHORT).output == 1
    assert len(face.sent("GET")) == 1
    (record,) = caplog.records
    assert "could not be fetched" in record.getMessage()
    assert face.task.id in record.getMessage()


def test_an_unknown_task_is_the_calls_to_say(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is logged beside it."""
    face.task.is_unknown()
    with pytest.raises(NotFoundException):
        face("execute", "spam", SHORT)
    assert caplog.records == []


def test_what_a_schema_has_that_cannot_be_checked_is_logged_once(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    """The rest of it is checked."""
    face.task.takes({"properties": {"text": {"minLength": 2, "pattern": "(?=x)"}}})
    for _ in range(2):
        with pytest.raises(ValidationException):
            face("execute", "spam", SHORT)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "the input schema of task 'spam' is checked in part"
    ]


def test_a_schema_that_is_too_large_is_logged_once(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    """Inputs are sent unchecked."""
    face.task.takes({"const": "x" * 1_100_000})
    assert [face("execute", "spam", SHORT).output for _ in range(2)] == [1, 1]
    assert len(caplog.records) == 1
    assert "sent unchecked: the schema has" in caplog.records[0].getMessage()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_without_its_library_the_client_is_not_made(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor a copy of one; the error says what to install."""
    monkeypatch.setitem(sys.modules, "loopai.programs.input_check", None)
    face = FakeLoopai()
    make = face.client if kind == "sync" else face.async_client
    with pytest.raises(ConfigurationError, match="validate_inputs needs jsonschema-rs: pip install jsonschema-rs"):
        make(validate_inputs=True)
    with pytest.raises(ConfigurationError, match="pip install jsonschema-rs"):
        make().with_options(validate_inputs=True)
    monkeypatch.setenv("LOOPAI_VALIDATE_INPUTS", "1")
    with pytest.raises(ConfigurationError, match="pip install jsonschema-rs"):
        make()


def test_on_python_39_the_client_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library has no wheels for it."""
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    with pytest.raises(ConfigurationError, match=r"Python 3\.10 or newer, and jsonschema-rs"):
        SyncLoopaiClient(validate_inputs=True)


# The steps, driven by hand


class Checked:
    """A check that refuses what is not a text, and counts."""

    warnings: list[str] = []

    def __init__(self, schema: Any) -> None:
        self.schema = schema

    def errors(self, value: Any) -> list[tuple[str, str]]:
        return [] if isinstance(value, str) else [("input", "is not a text")]

    def work(self, value: Any) -> float:
        return 1.0 if value != "slow" else float("inf")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _task(schema: Any) -> Task:
    return Task.model_validate({"id": TASK, "name": "spam", "description": "d", "input_schema": schema,
                                "output_schema": {}, "examples": [], "accuracy_target": 0.9,
                                "latency_target_ms": 10, "sampling_rate": 0.1,
                                "created_at": "2026-01-01T00:00:00Z"})  # fmt: skip


class Fetches:
    """Fetches of a schema that wait for the test: each yields one step, whose answer is the task or the error."""

    def __init__(self) -> None:
        self.count = 0
        self.schema: Any = SCHEMA
        self.error: Optional[Exception] = None

    def __call__(self, operation: Operation[Task]) -> Steps[Task]:
        self.count += 1
        yield Request("GET", operation.path, {}, b"", None, None, None)
        if self.error is not None:
            raise self.error
        return _task(self.schema)


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Checks:
    """`check_of`, step by step."""

    def __init__(self, clock: Clock) -> None:
        self.schemas = InputSchemas(Checked)
        self.fetches = Fetches()
        self.policy = Policy("http://loopai.test", {}, clock=clock)

    def steps(self) -> Any:
        return self.schemas.check_of(TASK, self.policy, self.fetches, ThreadPerformer())

    def __call__(self) -> Any:
        steps, answer = self.steps(), None
        try:
            while True:
                step = steps.send(answer)
                answer = Given(step.source()) if isinstance(step, Wanted) else Reply(200, {}, b"")
        except StopIteration as done:
            return done.value


@pytest.fixture
def checks(clock: Clock) -> Checks:
    return Checks(clock)


def test_a_schema_is_fetched_again_after_a_while(checks: Checks, clock: Clock) -> None:
    """What it says then counts; one that is the same is not made ready again."""
    first = checks()
    clock.now += SCHEMA_SECONDS - 1
    assert checks() is first
    assert checks.fetches.count == 1
    clock.now += 2
    assert checks() is first
    assert checks.fetches.count == 2
    clock.now += SCHEMA_SECONDS + 1
    checks.fetches.schema = {"type": "string"}
    assert checks().schema == {"type": "string"}


def test_a_failed_fetch_is_tried_again_soon(checks: Checks, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Not at each call; what was known is used meanwhile, and the first failure alone is logged."""
    checks.fetches.error = ConnectionException("refused")
    assert checks() is None
    assert checks() is None
    assert checks.fetches.count == 1
    clock.now += FAILURE_SECONDS + 1
    assert checks() is None
    assert len(caplog.records) == 1
    clock.now += FAILURE_SECONDS + 1
    checks.fetches.error = None
    known = checks()
    assert isinstance(known, Checked)
    clock.now += SCHEMA_SECONDS + 1
    checks.fetches.error = ConnectionException("refused")
    assert checks() is known
    clock.now += FAILURE_SECONDS + 1
    checks.fetches.error = NotFoundException("gone")
    assert checks() is None


def test_others_wait_for_the_one_that_fetches(checks: Checks) -> None:
    """And use what it got."""
    leader, follower = checks.steps(), checks.steps()
    assert isinstance(next(leader), Request)
    waiting = next(follower)
    assert isinstance(waiting, Wanted)
    made = leader.send(Reply(200, {}, b""))
    with pytest.raises(StopIteration) as led:
        leader.send(Given(made.source()))
    with pytest.raises(StopIteration) as followed:
        follower.send(Given(waiting.source()))
    assert followed.value.value is led.value.value
    assert checks.fetches.count == 1


def test_another_fetches_where_the_first_is_cancelled(checks: Checks) -> None:
    """Nobody waits for one that is gone."""
    leader, follower = checks.steps(), checks.steps()
    next(leader)
    waiting = next(follower)
    leader.close()
    assert isinstance(follower.send(Given(waiting.source())), Request)


def test_the_older_schema_is_used_while_it_is_fetched_again(checks: Checks, clock: Clock) -> None:
    """Callers wait for the first alone."""
    first = checks()
    clock.now += SCHEMA_SECONDS + 1
    leader = checks.steps()
    assert isinstance(next(leader), Request)
    assert checks() is first


def test_one_who_has_waited_long_enough_goes_unchecked(checks: Checks, clock: Clock) -> None:
    """The time that an attempt may take is the most."""
    leader, follower = checks.steps(), checks.steps()
    next(leader)
    next(follower)
    clock.now += checks.policy.timeout
    with pytest.raises(StopIteration) as done:
        follower.send(Given(False))
    assert done.value.value is None


def test_a_forked_child_does_not_wait_for_its_parent(checks: Checks) -> None:
    """The thread that would end the wait is not there."""
    leader, follower = checks.steps(), checks.steps()
    assert isinstance(next(leader), Request)
    checks.schemas._flights._pid = 0
    assert isinstance(next(follower), Request)


def test_nobody_waits_for_one_that_is_gone_without_a_word(checks: Checks) -> None:
    """A signal handler's exception may come before the first step that would be undone."""
    lost = checks.schemas._flights.take(TASK)
    follower = checks.steps()
    assert isinstance(next(follower), Wanted)
    del lost
    assert isinstance(follower.send(Given(False)), Request)


@pytest.mark.parametrize(("value", "aside"), [("short", False), ("slow", True), ("x" * QUICK_BYTES, True)])
def test_what_may_take_long_is_checked_beside_the_event_loop(value: str, aside: bool) -> None:
    """A short one is not worth a thread."""
    sent: list[Any] = []

    def send(operation: Operation[Any]) -> Steps[Any]:
        sent.append(operation)
        return (yield Request("POST", "", {}, b"", None, None, None))

    steps = checked(execute(TASK, value, None, None, False, True), Checked(None), ThreadPerformer(), send)
    step = next(steps)
    assert isinstance(step, Wanted) is aside
    if isinstance(step, Wanted):
        step = steps.send(Given(step.source()))
    assert isinstance(step, Request)
    assert len(sent) == 1


def test_a_thread_that_waits_too_long_says_so() -> None:
    """As the asynchronous client's wait does."""
    from loopai.performers import LoopPerformer

    flight: Future[None] = Future()
    flight.set_running_or_notify_cancel()
    assert ThreadPerformer().waited(flight, 0) is False
    assert asyncio.run(LoopPerformer().waited(flight, 0)) is False
    assert not flight.cancelled()
    flight.set_result(None)
    assert ThreadPerformer().waited(flight, None) is True
    assert asyncio.run(LoopPerformer().waited(flight, None)) is True
