"""The request bodies of the contract, and the rules that the real server's validators check on them."""

from __future__ import annotations

import re
from typing import Any

from .._core.limits import LONGEST_TIMEOUT_MS, MOST_CONCURRENCY
from ..programs.languages import LANGUAGES
from .binding import ANY, FLAG, GUID, INTEGER, NUMBER, TEXT, Body, ListOf, Member
from .settings import LARGEST_CODE

LONGEST_NAME = 200
LONGEST_DESCRIPTION = 5000
EMPTY_GUID = "00000000-0000-0000-0000-000000000000"

# `$` also matches before a final newline, on both servers.
_NAME = re.compile(r"^[a-zA-Z0-9_\-.]+$")
_SHARE = {"minimum": 0, "maximum": 1}
_LATENCY = {"minimum": 1, "maximum": LONGEST_TIMEOUT_MS}

CREATE_TASK = Body(
    "CreateTaskRequest",
    Member("name", TEXT, bounds={"minLength": 1, "maxLength": LONGEST_NAME, "pattern": r"^[a-zA-Z0-9_\-.]+$"}),
    Member("description", TEXT, bounds={"minLength": 1, "maxLength": LONGEST_DESCRIPTION}),
    Member("input_schema", ANY),
    Member("output_schema", ANY),
    Member("examples", ListOf(), default=[]),
    Member("accuracy_target", NUMBER, default=0.9, bounds=_SHARE),
    Member("latency_target_ms", INTEGER, default=10, bounds=_LATENCY),
    Member("sampling_rate", NUMBER, default=0.1, bounds=_SHARE),
)

EXECUTE = Body(
    "ExecuteRequest",
    Member("task_id", GUID),
    Member("input", ANY),
    Member("version", INTEGER, default=None, nullable=True, bounds={"minimum": 1}),
    Member("force_validation", FLAG, default=False),
    Member("timeout_ms", INTEGER, default=None, nullable=True, bounds=_LATENCY),
)

BATCH_EXECUTE = Body(
    "BatchExecuteRequest",
    Member("task_id", GUID),
    Member(
        "items",
        ListOf(
            Body(
                "BatchExecuteItem",
                Member("id", TEXT),
                Member("input", ANY),
                Member("force_validation", FLAG, default=False),
            )
        ),
    ),
    Member("version", INTEGER, default=None, nullable=True),
    Member("max_concurrency", INTEGER, default=10, nullable=True, bounds={"minimum": 1, "maximum": MOST_CONCURRENCY}),
    Member("stop_on_first_error", FLAG, default=False),
    Member("timeout_ms", INTEGER, default=None, nullable=True),
)

BATCH_VALIDATE = Body(
    "BatchValidateRequest",
    Member("task_id", GUID),
    Member(
        "items",
        ListOf(
            Body(
                "BatchValidateItem",
                Member("id", TEXT),
                Member("input", ANY),
                Member("output", ANY),
                Member("expected_output", ANY),
            )
        ),
    ),
)

ADD_EXAMPLES = Body("AddExamplesRequest", Member("examples", ListOf()))

GENERATE = Body("GenerateRequest", Member("wait", FLAG, default=True))

NOTHING = Body("EmptyRequest")

PUSH_PROGRAM = Body(
    "PushProgramRequest",
    Member("code", TEXT, bounds={"minLength": 1, "maxLength": LARGEST_CODE}),
    Member("language", TEXT, default="python", bounds={"enum": list(LANGUAGES)}),
    Member("activate", FLAG, default=True),
)


def broken_task_rules(task: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the broken rules of create-task, as (property, text) in the contract's order."""
    name, description = task["name"], task["description"]
    rules = (
        ("Name", not name.strip(), "Task name is required"),
        ("Name", _length(name) > LONGEST_NAME, f"Task name must not exceed {LONGEST_NAME} characters"),
        (
            "Name",
            not _NAME.match(name),
            "Task name must contain only alphanumeric characters, underscores, hyphens, and periods",
        ),
        ("Description", not description.strip(), "Task description is required"),
        (
            "Description",
            _length(description) > LONGEST_DESCRIPTION,
            f"Task description must not exceed {LONGEST_DESCRIPTION} characters",
        ),
        ("AccuracyTarget", not 0 <= task["accuracy_target"] <= 1, "Accuracy target must be between 0.0 and 1.0"),
        (
            "LatencyTargetMs",
            not 1 <= task["latency_target_ms"] <= LONGEST_TIMEOUT_MS,
            f"Latency target must be between 1 and {LONGEST_TIMEOUT_MS} milliseconds",
        ),
        ("SamplingRate", not 0 <= task["sampling_rate"] <= 1, "Sampling rate must be between 0.0 and 1.0"),
    )
    return [(member, text) for member, broken, text in rules if broken]


def broken_execute_rules(request: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the broken rules of execute, as (property, text) in the contract's order."""
    version, timeout_ms = request["version"], request["timeout_ms"]
    rules = (
        ("TaskId", request["task_id"] == EMPTY_GUID, "Task ID is required"),
        ("Version", version is not None and version <= 0, "Version must be greater than 0"),
        (
            "TimeoutMs",
            timeout_ms is not None and not 1 <= timeout_ms <= LONGEST_TIMEOUT_MS,
            f"Timeout must be between 1 and {LONGEST_TIMEOUT_MS} milliseconds",
        ),
    )
    return [(member, text) for member, broken, text in rules if broken]


def _length(text: str) -> int:
    """Return the length in UTF-16 units, as the real server counts."""
    return len(text) + sum(1 for sign in text if ord(sign) > 0xFFFF)
