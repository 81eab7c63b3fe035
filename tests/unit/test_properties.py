# ruff: noqa: PT017  # whether anything raises is up to what hypothesis draws
"""What holds for any reply, any header and any name, by hypothesis."""

from __future__ import annotations

import json
import math
import pickle
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any, Union
from uuid import UUID

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loopai import models
from loopai._core import operations, retries
from loopai._core.flow import Policy, Sleep, call
from loopai._core.operations import Operation
from loopai._core.wire import Headers, NoReply, Reply
from loopai.exceptions import LoopaiException, ValidationException

TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"
OPERATIONS: list[Operation[Any]] = [
    operations.create_task("n", "d", {}, {}, None, None, None, None),
    operations.get_task(TASK),
    operations.list_tasks(),
    operations.get_task_by_name("n"),
    operations.list_artifacts(TASK),
    operations.get_artifact(TASK, 1),
    operations.push_program(TASK, "c", "python", True),
    operations.execute(TASK, 1, None, None, False, True),
    operations.execute_group(TASK, [b"1"], None, None, False),
    operations.execute_group(TASK, [b"1", b"2"], 1, 5, True),
    operations.batch_execute(operations.batch_of(TASK, [1], 10)),
    operations.batch_validate(TASK, []),
    operations.get_health(),
    operations.get_detailed_health(),
    operations.get_ready(),
    operations.get_live(),
    operations.get_plain_health(),
    operations.get_metrics(),
    operations.get_validation_summary(TASK),
    operations.get_recommendations(TASK),
    operations.improve_program(TASK),
    operations.compare_programs(TASK, TASK, None),
    operations.start_canary(TASK, TASK),
    operations.progress_canary(TASK),
    operations.rollback_canary(TASK, "r"),
    operations.get_canary(TASK),
    operations.subscribe_webhook("http://x", [0], None, None, None, None),
    operations.unsubscribe_webhook(TASK),
    operations.list_webhooks(),
    operations.get_webhook_history(TASK, 5),
]
MEMBERS = sorted(
    {
        name
        for kind in vars(models).values()
        if isinstance(kind, type) and issubclass(kind, models.LoopaiModel)
        for name in kind.model_fields
    }
    | {"taskId", "executionId", "property_name", "error_message"}
)

scalars: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        [
            TASK,
            "success",
            "error",
            "2025-11-03T08:15:30.1234567",
            "0001-01-01T00:00:00",
            "INTERNAL_ERROR",
            "EXECUTION_ERROR",
        ]
    ),
)
jsons = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(MEMBERS), st.text(max_size=8)), inner, max_size=6),
    ),
    max_leaves=15,
)
bodies = st.one_of(st.binary(max_size=200), jsons.map(lambda value: json.dumps(value).encode()))
headers = st.dictionaries(
    st.sampled_from(["retry-after", "location", "x-rate-limit-remaining", "x-rate-limit-reset", "content-type"]),
    st.one_of(
        st.text(max_size=40),
        st.sampled_from(["0", "http://[", "http://x:99999999/", "/y", "5", "2025-01-01T00:00:00Z"]),
    ),
)
answers = st.one_of(
    st.builds(
        Reply,
        st.one_of(st.sampled_from([200, 201, 204, 400, 404, 429, 500, 503, 307]), st.integers(100, 999)),
        headers,
        bodies,
    ),
    st.builds(NoReply, st.sampled_from([OSError("x"), TimeoutError()]), st.booleans(), st.booleans()),
)


def run(operation: Operation[Any], given_answers: list[Any], **options: Any) -> tuple[Any, list[float]]:
    now, pauses, rest = [0.0], [], list(given_answers)
    flow = call(operation, Policy("http://x", Headers(), clock=lambda: now[0], time_of_day=lambda: 1.7e9, **options))
    answer = None
    try:
        while True:
            step = flow.send(answer)
            answer = None
            if isinstance(step, Sleep):
                pauses.append(step.seconds)
                now[0] += step.seconds
            else:
                answer = rest.pop(0) if len(rest) > 1 else rest[0]
    except StopIteration as done:
        return done.value, pauses


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(OPERATIONS), st.lists(answers, min_size=1, max_size=4), st.one_of(st.none(), st.floats(0.1, 1e6))
)
def test_no_reply_leads_to_anything_but_a_result_or_a_loopai_exception(
    operation: Operation[Any], replies: list[Any], deadline: Any
) -> None:
    """Any bytes, status and headers, for every operation; the error can be shown and survives pickle."""
    try:
        run(operation, replies, deadline=deadline)
    except LoopaiException as error:
        assert str(error)
        assert repr(error)
        assert pickle.loads(pickle.dumps(error)) == error


@settings(deadline=None)
@given(st.lists(answers, min_size=1, max_size=4), st.floats(0.1, 100), st.floats(0, 1, exclude_max=True))
def test_a_call_never_pauses_beyond_its_deadline(replies: list[Any], deadline: float, random: float) -> None:
    """All its pauses together end before the deadline; each is longer than nothing."""
    pauses: list[float] = []
    now = [0.0]
    operation = operations.get_task(TASK)
    flow = call(
        operation,
        Policy(
            "http://x",
            Headers(),
            deadline=deadline,
            max_retries=None,
            clock=lambda: now[0],
            time_of_day=lambda: 1.7e9,
            random=lambda: random,
        ),
    )
    answer, rest = None, list(replies)
    try:
        while True:
            step = flow.send(answer)
            answer = None
            if isinstance(step, Sleep):
                pauses.append(step.seconds)
                now[0] += step.seconds
            else:
                assert step.timeout is not None
                assert 0 < step.timeout <= deadline
                answer = rest.pop(0) if len(rest) > 1 else rest[0]
    except (StopIteration, LoopaiException):
        assert sum(pauses) < deadline
        assert all(pause > 0 for pause in pauses)


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
def test_backoff_is_bounded_and_grows(attempt: int, random: float) -> None:
    """Half to whole of a doubling pause, 8 s at most, never less than the attempt before with the same draw."""
    pause = retries.backoff(attempt, random)
    whole = min(retries.LONGEST_PAUSE, retries.FIRST_PAUSE * 2 ** min(attempt - 1, 40))
    assert whole / 2 <= pause <= whole
    assert retries.backoff(attempt + 1, random) >= pause


@given(st.integers(0, 10**9), st.integers(0, 4 * 10**9))
def test_retry_after_round_trips(seconds: int, now: int) -> None:
    """As number and as date it is the same pause."""
    assert retries.retry_after({"retry-after": str(seconds)}, now) == seconds
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=now + seconds)
    assert retries.retry_after({"retry-after": format_datetime(moment, usegmt=True)}, now) == seconds
    reset = {"x-rate-limit-remaining": "0", "x-rate-limit-reset": moment.strftime("%Y-%m-%dT%H:%M:%S.1234567Z")}
    assume(moment.year >= 1000)
    assert retries.retry_after(reset, now) == seconds


@given(st.text(max_size=60), st.text(max_size=60), st.floats(0, 1e10))
def test_retry_after_is_a_pause_or_nothing(asked: str, reset: str, now: float) -> None:
    """Never negative, never endless, never an exception."""
    for headers in ({"retry-after": asked}, {"x-rate-limit-remaining": "0", "x-rate-limit-reset": reset}):
        pause = retries.retry_after(headers, now)
        assert pause is None or (pause >= 0 and math.isfinite(pause))


@given(st.text(max_size=60))
def test_python_names_settle(name: str) -> None:
    """A Python name is its own Python name."""
    assume(not name.startswith("$"))
    once = models.python_name(name)
    assert models.python_name(once) == once


@given(st.lists(st.from_regex(r"[A-Z][a-z]{1,6}", fullmatch=True), min_size=1, max_size=5))
def test_c_sharp_names_turn_word_by_word(words: list[str]) -> None:
    """PascalCase and camelCase become the same snake_case."""
    expected = "_".join(word.lower() for word in words)
    pascal = "".join(words)
    assert models.python_name(pascal) == expected
    assert models.python_name(pascal[0].lower() + pascal[1:]) == expected


moments = st.datetimes(timezones=st.one_of(st.none(), st.just(timezone.utc))).map(
    lambda moment: moment.isoformat().replace("+00:00", "Z")
)
values = jsons.filter(lambda value: "NaN" not in json.dumps(value) and "Infinity" not in json.dumps(value))
executions = st.fixed_dictionaries(
    {"task_id": st.uuids().map(str)},
    optional={
        "execution_id": st.uuids().map(str),
        "program_id": st.uuids().map(str),
        "version": st.integers(0, 2**31),
        "status": st.sampled_from(["success", "error", "timeout"]),
        "output": values,
        "error_message": st.text(max_size=20),
        "latency_ms": st.floats(0, 1e6),
        "sampled_for_validation": st.booleans(),
        "executed_at": moments,
        "newer_member": values,
    },
)


@settings(deadline=None)
@given(executions)
def test_models_dump_what_they_read(body: dict[str, Any]) -> None:
    """Any reply comes back equal as JSON, members and omissions; in camelCase too, and after pickle."""
    model = models.ExecutionResult.model_validate_json(json.dumps(body))
    assert model.model_dump(mode="json") == body
    assert pickle.loads(pickle.dumps(model)).model_dump(mode="json") == body
    camel = {
        "".join(word.title() if n else word for n, word in enumerate(key.split("_"))): value
        for key, value in body.items()
    }
    dumped = models.ExecutionResult.model_validate(camel).model_dump(mode="json")
    assert {models.python_name(key): value for key, value in dumped.items()} == body


@settings(deadline=None)
@given(jsons)
def test_what_is_sent_is_what_was_given_or_refused(value: Any) -> None:
    """Either the server reads the same value, or the error names the input."""
    try:
        sent = operations.encode(value, "input")
    except ValidationException as error:
        assert all(name.startswith("input") for name in error.errors)
        assert str(error).encode()
        with_nan = "NaN" in json.dumps(value) or "Infinity" in json.dumps(value)
        surrogates = any(0xD800 <= ord(letter) < 0xE000 for letter in json.dumps(value, ensure_ascii=False))
        assert with_nan or surrogates
    else:
        assert json.loads(sent) == value


@given(st.one_of(st.text(max_size=40), st.integers(), st.uuids(), st.none(), st.binary()))
def test_an_id_is_a_uuid_or_refused(value: Union[str, int, UUID, None]) -> None:
    """Never anything else that could end in a path."""
    try:
        found = operations.id_of(value, "task_id")  # type: ignore[arg-type]  # on purpose
    except ValidationException as error:
        assert list(error.errors) == ["task_id"]
    else:
        assert str(UUID(found)) == found
