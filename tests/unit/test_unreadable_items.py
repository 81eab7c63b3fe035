"""One item of a reply that cannot be read fails alone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from loopai import LoopaiClient, SyncLoopaiClient
from loopai._core.items import id_of_item, results_of
from loopai._core.wire import Reply, Request
from loopai.exceptions import ServerException

TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"

SPOILT = {
    "lone surrogate": '{"id":"1","success":true,"output":{"text":"a\\ud800b"},"latency_ms":1}',
    "deep": '{"id":"1","success":true,"output":' + "[" * 5000 + "]" * 5000 + ',"latency_ms":1}',
    "deep, id last": '{"success":true,"latency_ms":1,"output":'
    + '{"id":"0","a":' * 3000
    + "1"
    + "}" * 3000
    + ',"id":"1"}',
    "null latency": '{"id":"1","success":true,"output":1,"latency_ms":null}',
    "no success": '{"id":"1","output":1,"latency_ms":1}',
    "text in brackets": '{"id":"1","success":"perhaps","output":"}],{\\"id\\":\\"0\\"","latency_ms":1}',
}


class Answering:
    """A transport whose batches come back with the second item spoilt."""

    has_programs = True

    def __init__(self, spoilt: str, place: int = 1) -> None:
        self.spoilt = spoilt

    def send(self, request: Request) -> Reply:
        items = json.loads(request.content)["items"]
        each = [f'{{"id":"{item["id"]}","success":true,"output":"ok","latency_ms":1}}' for item in items]
        each[1] = self.spoilt
        counts = '"total_items":3,"success_count":3,"failure_count":0,"total_duration_ms":1,"avg_latency_ms":1'
        text = f'{{"batch_id":"{TASK}","task_id":"{TASK}","version":1,"results":[{" , ".join(each)}],{counts}}}'
        return Reply(200, {}, text.encode())

    async def asend(self, request: Request) -> Reply:
        return self.send(request)

    def close(self) -> None:
        """Hold nothing."""

    async def aclose(self) -> None:
        """Hold nothing."""


@pytest.mark.parametrize("spoilt", SPOILT)
def test_in_a_batch(calls: Any, spoilt: str) -> None:
    """The others are what they are, and the counts are right."""
    client = calls.client(transport=Answering(SPOILT[spoilt]))
    batch = calls("batch_execute", TASK, [0, 1, 2], client=client)
    assert [(item.id, item.success) for item in batch.results] == [("0", True), ("1", False), ("2", True)]
    assert "cannot be read" in batch.results[1].error_message
    assert (batch.success_count, batch.failure_count) == (2, 1)


@pytest.mark.parametrize("spoilt", SPOILT)
async def test_in_a_coalesced_group(spoilt: str) -> None:
    """Its caller alone gets the error."""
    async with LoopaiClient("http://x", transport=Answering(SPOILT[spoilt]), coalesce=True) as client:
        each = await asyncio.gather(*(client.execute(TASK, n) for n in range(3)), return_exceptions=True)
    assert [type(one).__name__ for one in each] == ["ExecutionResult", "ExecutionException", "ExecutionResult"]


@pytest.mark.parametrize("spoilt", ['{"success":true}', "7", '{"id":'])
def test_an_item_that_is_nobodys(spoilt: str) -> None:
    """Where not even the id can be read, the reply is none of a Loopai server's."""
    with SyncLoopaiClient("http://x", transport=Answering(spoilt)) as client, pytest.raises(ServerException):  # type: ignore[arg-type]  # both kinds
        client.batch_execute(TASK, [0, 1, 2])


def test_results_are_found_wherever_they_stand() -> None:
    """Only the reply's own list counts, with or without spaces."""
    text = b' { "a" : {"results":[1]}, "results" : [ {"id":"x"} , [2] ,"3" ], "b": [] } '
    assert results_of(text) == (
        b' { "a" : {"results":[1]}, "results" : [], "b": [] } ',
        [b'{"id":"x"}', b"[2]", b'"3"'],
    )
    assert results_of(b'{"results":[]}') == (b'{"results":[]}', [])
    assert results_of(b'{"results":5}') is None
    assert results_of(b"[1]") is None
    assert id_of_item(b'{"output":{"id":"inner"},"id":"outer"}') == "outer"


class Shuffled(Answering):
    """A transport whose batches come back with the results that `chosen` names by their places."""

    def __init__(self, chosen: list[int]) -> None:
        self.chosen = chosen

    def send(self, request: Request) -> Reply:
        items = json.loads(request.content)["items"]
        results = [
            {"id": items[place]["id"], "success": True, "output": items[place]["input"], "latency_ms": 1}
            for place in self.chosen
        ]
        counts = {"total_items": 3, "success_count": 3, "failure_count": 0, "total_duration_ms": 1, "avg_latency_ms": 1}
        batch = {"batch_id": TASK, "task_id": TASK, "version": 1, "results": results, **counts}
        return Reply(200, {}, json.dumps(batch).encode())


def test_results_have_the_order_of_the_items(calls: Any) -> None:
    """In whatever order a server sends them; of items that share an id, those of a server in theirs."""
    client = calls.client(transport=Shuffled([2, 0, 1]))
    results = calls("batch_execute", TASK, ["a", "b", "c"], client=client).results
    assert [(item.id, item.output) for item in results] == [("0", "a"), ("1", "b"), ("2", "c")]
    items = [{"id": name, "input": number} for number, name in enumerate(("x", "y", "x"))]
    client = calls.client(transport=Shuffled([1, 0, 2]))
    results = calls("batch_execute_advanced", task_id=TASK, items=items, client=client).results
    assert [(item.id, item.output) for item in results] == [("x", 0), ("y", 1), ("x", 2)]


@pytest.mark.parametrize("chosen", [[0, 1], [0, 0, 2], [0, 1, 2, 1], []])
def test_a_reply_that_lacks_a_result_or_has_one_twice_is_refused(calls: Any, chosen: list[int]) -> None:
    """Results would be taken for those of other items."""
    client = calls.client(transport=Shuffled(chosen), max_retries=0)
    with pytest.raises(ServerException, match="3 items were sent, and these came back: "):
        calls("batch_execute", TASK, ["a", "b", "c"], client=client)
