"""`batch_router` against a stand-in for the published server: every row right, and one first execution."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from loopai import LoopaiClient, SyncLoopaiClient
from loopai.contrib.fastapi import batch_router
from loopai.contrib.fastapi.testing import override_loopai

from ..standin import TASK, URL, StandIn
from .test_batch_router import events_of, named


class _Clients:
    """What gives the application its clients: on the stand-in, at default options."""

    def __init__(self, server: StandIn) -> None:
        self.server = server

    def async_client(self) -> LoopaiClient:
        return LoopaiClient(URL, transport=self.server)

    def client(self) -> SyncLoopaiClient:
        return SyncLoopaiClient(URL, transport=self.server)


@contextmanager
def serving(server: StandIn) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(batch_router(TASK))
    with override_loopai(app, _Clients(server)):  # type: ignore[arg-type]  # what it needs of a fake
        yield TestClient(app)


def results_of(client: TestClient, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    reply = client.post("/batch", json=rows, params={"key": "n"})
    assert reply.status_code == 200, reply.text
    return [event.data for event in named(events_of(reply.text), "result")]


def test_a_thousand_rows_are_all_right() -> None:
    """In at most 25 requests; nothing goes out twice that was not under way when the first row was not run."""
    server = StandIn()
    with serving(server) as client:
        results = results_of(client, [{"n": number} for number in range(1000)])
    assert len(results) == 1000
    assert all(result["output"] == {"of": {"n": int(result["key"])}} for result in results)
    assert len({result["key"] for result in results}) == 1000
    assert len(server.requests) <= 25
    assert max(server.sent_after_first.values()) == max(server.sent_one_at_a_time.values()) == 1


def test_one_row_goes_alone_where_there_is_no_program() -> None:
    """One generation for all rows of the request."""
    server = StandIn(active=False, fails=0.0)
    with serving(server) as client:
        results = results_of(client, [{"n": number} for number in range(300)])
    assert {result["status"] for result in results} == {"ok"}
    assert len(json.loads(server.posts[0].content)["items"]) == 1
    assert server.generations[TASK] == 1
