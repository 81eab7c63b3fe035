"""The small rules of the embedded server: validators, dates, comparison, rations, schemas."""

from __future__ import annotations

import sys
from typing import Any

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the embedded server needs Python 3.10", allow_module_level=True)

from loopai.local import comparison, records, timestamps
from loopai.local.bodies import broken_execute_rules, broken_task_rules
from loopai.local.rate_limiter import RateLimiter
from loopai.programs.input_check import InputCheck

TASK: dict[str, Any] = {
    "name": "spam-filter_1.0",
    "description": "d",
    "accuracy_target": 0.9,
    "latency_target_ms": 10,
    "sampling_rate": 0.1,
}


def test_a_sound_task_breaks_no_rule() -> None:
    """The bounds themselves are allowed."""
    assert broken_task_rules(TASK) == []
    extremes = {**TASK, "accuracy_target": 1.0, "sampling_rate": 0.0, "latency_target_ms": 60000, "name": "a" * 200}
    assert broken_task_rules(extremes) == []


def test_all_broken_rules_of_a_task_are_told_in_order() -> None:
    """An empty name breaks two rules; no rule stops the next."""
    broken = {
        "name": " ",
        "description": "x" * 5001,
        "accuracy_target": 1.1,
        "latency_target_ms": 0,
        "sampling_rate": -0.1,
    }
    assert broken_task_rules(broken) == [
        ("Name", "Task name is required"),
        ("Name", "Task name must contain only alphanumeric characters, underscores, hyphens, and periods"),
        ("Description", "Task description must not exceed 5000 characters"),
        ("AccuracyTarget", "Accuracy target must be between 0.0 and 1.0"),
        ("LatencyTargetMs", "Latency target must be between 1 and 60000 milliseconds"),
        ("SamplingRate", "Sampling rate must be between 0.0 and 1.0"),
    ]


def test_lengths_count_utf16_units() -> None:
    """An emoji counts twice, as it does on the real server."""
    assert broken_task_rules({**TASK, "description": "😀" * 2500}) == []
    assert broken_task_rules({**TASK, "description": "😀" * 2501})


def test_the_rules_of_execute() -> None:
    """Zero GUID, version and time-out have texts of their own."""
    request = {"task_id": "00000000-0000-0000-0000-000000000000", "version": 0, "timeout_ms": 60001}
    assert broken_execute_rules(request) == [
        ("TaskId", "Task ID is required"),
        ("Version", "Version must be greater than 0"),
        ("TimeoutMs", "Timeout must be between 1 and 60000 milliseconds"),
    ]


@pytest.mark.parametrize(
    ("ticks", "text"),
    [
        (17621577301234567, "2025-11-03T08:15:30.1234567Z"),
        (17621577301200000, "2025-11-03T08:15:30.12Z"),
        (17621577300000000, "2025-11-03T08:15:30Z"),
    ],
)
def test_dates_have_up_to_seven_digits(ticks: int, text: str) -> None:
    """Trailing zeros go, and a fraction of zero goes whole."""
    assert timestamps.iso8601(ticks) == text


def test_integral_doubles_have_no_fraction() -> None:
    """`1`, not `1.0`."""
    assert str(records.number(1.0)) == "1"
    assert str(records.number(0.25)) == "0.25"


@pytest.mark.parametrize(
    ("output", "expected", "equal"),
    [
        ('{"a": 1, "b": 2}', '{"a": 1, "b": 2}', True),
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', False),
        ('{"a":1}', '{"a": 1}', False),
        ("1", "1.0", False),
        ('"\\u0061"', '"a"', True),
        ('"1"', "1", True),
        ("null", '""', True),
        ("true", '"True"', True),
        ("true", '"true"', False),
        ("[1]", "[1]", True),
    ],
)
def test_outputs_are_compared_as_dotnet_writes_them(output: str, expected: str, equal: bool) -> None:
    """Objects and numbers by their text, strings by value."""
    item = f'{{ "id": "a", "input": [{{}}], "output" :{output} , "Expected_Output": {expected} }}'
    body = f'{{"task_id": "x", "items" : [ {item}, {item} ], "other": {{"items": []}}}}'
    pairs = comparison.pairs(body.encode())
    assert [given == wanted for given, wanted in pairs] == [equal, equal]


def test_a_ration_is_a_minute_from_the_first_request_for_each_path() -> None:
    """Requests over the limit are refused with the seconds that are left; other paths and clients have their own."""
    now = [1000.0]
    limiter = RateLimiter(2, clock=lambda: now[0])
    assert limiter.admit("c", "POST", "/a")[1]["X-Rate-Limit-Remaining"] == "1"
    now[0] += 20
    assert limiter.admit("c", "POST", "/A")[1]["X-Rate-Limit-Remaining"] == "0"
    refusal, _ = limiter.admit("c", "POST", "/a")
    assert refusal is not None
    assert (refusal.status_code, refusal.headers["retry-after"]) == (429, "40")
    for other in (("c", "POST", "/b"), ("c", "GET", "/a"), ("d", "POST", "/a")):
        assert limiter.admit(*other)[0] is None
    now[0] += 40
    assert limiter.admit("c", "POST", "/a")[0] is None


def test_input_errors_name_the_path() -> None:
    """Of a missing member the path is the member's own."""
    check = InputCheck({"required": ["text"], "properties": {"rows": {"items": {"type": "integer"}}}})
    assert check.errors({"text": "a", "rows": [1]}) == []
    assert [path for path, _ in check.errors({"rows": [1, "x"]})] == ["input.text", "input.rows[1]"]


@pytest.mark.parametrize(
    "schema",
    [None, 5, "{}", [], {"type": "nope"}, {"$ref": "http://localhost:1/x"}, {"$ref": "#/none"}, {"pattern": "("}],
)
def test_what_is_no_schema_checks_nothing(schema: Any) -> None:
    """The contract stores any value as a schema; nothing is fetched for one."""
    assert InputCheck(schema).errors({"any": "thing"}) == []
