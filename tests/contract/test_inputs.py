"""`validate_inputs`: what the client refuses is what the embedded server refuses, word for word."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from loopai import ValidationException

from .conftest import Calls

pytestmark = [
    pytest.mark.skipif(sys.version_info < (3, 10), reason="jsonschema-rs needs Python 3.10"),
    pytest.mark.addition("checked inputs"),
]

INPUTS = [{"text": "claim your prize"}, {"text": 5}, {}, {"text": "lunch"}]


@pytest.fixture
def checking(calls: Calls) -> Calls:
    """As `calls`, on the same connections."""
    return Calls(calls.client.with_options(validate_inputs=True))


@pytest.mark.parametrize("value", INPUTS[1:3])
async def test_a_refused_input_is_the_same(calls: Calls, checking: Calls, task: Any, value: Any) -> None:
    """Message, paths, code and status."""
    told = []
    for face in (calls, checking):
        with pytest.raises(ValidationException) as caught:
            await face.execute(task.id, value)
        error = caught.value
        told.append((error.message, error.errors, error.code, error.status_code))
    assert told[0] == told[1]


async def test_refused_items_are_the_same(calls: Calls, checking: Calls, task: Any) -> None:
    """Each in its place; the others run."""
    told = []
    for face in (calls, checking):
        reply = await face.batch_execute(task.id, INPUTS)
        told.append(
            [(item.id, item.success, item.output, item.error_message, item.code) for item in reply.results]
            + [(reply.total_items, reply.success_count, reply.failure_count)]
        )
    assert told[0] == told[1]


async def test_a_task_by_its_name_is_checked(checking: Calls, task: Any, name: str) -> None:
    """Which the first call looks up."""
    assert (await checking.execute(name, INPUTS[0])).output == {"label": "spam"}
    with pytest.raises(ValidationException):
        await checking.execute(name, {})
