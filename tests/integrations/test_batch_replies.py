"""A batch's replies over the wire, by either client."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest

from loopai import LoopaiClient, SyncLoopaiClient
from loopai.batch import Outcome

TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_surrogate_in_one_output_fails_its_row_alone(kind: str, make_server: Any) -> None:
    """Over the wire, by either client: one request, and no other row is touched."""
    asked_for = []

    async def behaviour(asked: Any, wire: Any) -> None:
        items = json.loads(asked.body)["items"]
        asked_for.append(len(items))
        outputs = [r'"\ud800"' if item["input"] == 3 else "1" for item in items]
        each = (f'{{"id":"{item["id"]}","success":true,"output":{text}}}' for item, text in zip(items, outputs))
        await wire.answer(f'{{"task_id":"{TASK}","results":[{",".join(each)}]}}'.encode())

    server = make_server(behaviour)
    if kind == "sync":
        with SyncLoopaiClient(server.url) as client:
            outcomes = list(client.batch_stream(UUID(TASK), range(6), ordered=True))
    else:

        async def gather() -> list[Outcome]:
            async with LoopaiClient(server.url) as client:
                return [each async for each in client.batch_stream(UUID(TASK), range(6), ordered=True)]

        outcomes = asyncio.run(gather())
    assert [each.status for each in outcomes] == ["ok"] * 3 + ["error"] + ["ok"] * 2
    assert "cannot be read" in str(outcomes[3].error)
    assert asked_for == [6]
