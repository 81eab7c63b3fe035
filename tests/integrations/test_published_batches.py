"""Batches against a stand-in for the published server: no row is lost to its faults, and none is sent for nothing."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from typing import Any, Callable

import pytest

from loopai import LoopaiClient, NotFoundException, RateLimitException, ServerException, SyncLoopaiClient
from loopai.batch import BatchOptions, Outcome, stream, stream_sync
from loopai.preparation import batch_sender
from loopai.testing import FakeLoopai

from .standin import TASK, UNRUN_TEXTS, URL, StandIn

Run = Callable[..., list[Outcome]]


def client_on(server: Any, kind: type, **options: Any) -> Any:
    return kind(URL, transport=server, **options)


@pytest.fixture(params=["async", "sync"])
def collect(request: pytest.FixtureRequest) -> Run:
    """The outcomes of a stream against a stand-in, by either client; time is the stand-in's."""

    def run(server: StandIn, rows: Any, client: dict[str, Any] | None = None, **options: Any) -> list[Outcome]:
        checked = BatchOptions(**{"mode": "resume", **options})
        if request.param == "sync":
            with client_on(server, SyncLoopaiClient, **(client or {})) as made:
                sender = batch_sender(made)
                return list(stream_sync(sender, TASK, rows, checked, clock=server.clock, sleep=server.sleep))

        async def gather() -> list[Outcome]:
            async with client_on(server, LoopaiClient, **(client or {})) as made:
                sender = batch_sender(made)
                outcomes = stream(sender, TASK, rows, checked, clock=server.clock, sleep=server.asleep)
                return [each async for each in outcomes]

        return asyncio.run(gather())

    return run


def rows(count: int) -> list[dict[str, Any]]:
    return [{"n": number} for number in range(count)]


def statuses(outcomes: list[Outcome]) -> Counter[str]:
    return Counter(outcome.status for outcome in outcomes)


def test_a_thousand_rows_at_default_options_are_all_right(collect: Run) -> None:
    """In at most 25 requests; nothing goes out twice that was not under way when the first such reply came."""
    server = StandIn()
    outcomes = collect(server, rows(1000))
    assert statuses(outcomes) == {"ok": 1000}
    assert all(outcome.output == {"of": outcome.row.input} for outcome in outcomes)
    assert len(server.requests) <= 25
    assert max(server.sent_one_at_a_time.values()) == 1
    assert sum(body["max_concurrency"] > 1 for body in server.batches) <= 4
    again = [outcome for outcome in outcomes if outcome.attempts > 1]
    assert 0 < len(again) <= 400
    assert all(outcome.attempts == 2 for outcome in again)


def test_a_row_that_fails_alone_too_is_an_error_of_the_server(collect: Run) -> None:
    """It ends once others ran meanwhile, as `server`; everything else is ok, and `max_errors` counts it once."""
    server = StandIn(limit=None)
    given = rows(300)
    given[150]["poison"] = True
    outcomes = collect(server, given, max_errors=1)
    assert statuses(outcomes) == {"ok": 299, "error": 1}
    (failed,) = (outcome for outcome in outcomes if not outcome.ok)
    assert (failed.row.input["n"], failed.code) == (150, "server")
    assert "may have run" in str(failed.error)
    del given[150]
    assert max(server.sent_one_at_a_time[f'{{"n": {each["n"]}}}'] for each in given) == 1


def test_the_last_row_that_fails_alone_is_an_error_of_the_server(collect: Run) -> None:
    """Nothing is left to run beside it; it ends all the same, as others ran in its request."""
    server = StandIn(limit=None)
    given = rows(5)
    given[4]["poison"] = True
    outcomes = collect(server, given)
    assert statuses(outcomes) == {"ok": 4, "error": 1}
    assert server.sent['{"n": 4, "poison": true}'] <= 5


def test_a_server_that_can_run_nothing_ends_the_run_as_unreachable(collect: Run) -> None:
    """Every item fails with concurrency 1 as well: no row is blamed for it."""
    server = StandIn(limit=None)
    given = [{"n": number, "poison": True} for number in range(250)]
    with pytest.raises(ServerException, match="could not run any row"):
        collect(server, given)
    assert len(server.requests) <= 40
    assert server.now > 1005.0  # it backed off


@pytest.mark.parametrize("options", [{"retry_unknown": False}, {"max_retries": 0}])
def test_without_retries_a_row_is_sent_once(collect: Run, options: dict[str, Any]) -> None:
    """Its error says that it may have run."""
    server = StandIn(limit=None)
    outcomes = collect(server, rows(100), options)
    assert set(server.sent.values()) == {1}
    failed = [outcome for outcome in outcomes if not outcome.ok]
    assert failed
    assert all(outcome.code == "server" and "may have run" in str(outcome.error) for outcome in failed)


def test_concurrency_stays_at_one_for_the_clients_life(caplog: pytest.LogCaptureFixture) -> None:
    """Copies of the client share it; it is logged once, in words that say what to set."""
    server = StandIn(limit=None)
    with caplog.at_level(logging.WARNING, "loopai"), client_on(server, SyncLoopaiClient) as client:
        for _ in range(2):
            assert all(outcome.ok for outcome in client.batch_stream(TASK, rows(20)))
        assert all(outcome.ok for outcome in client.with_options(timeout=5).batch_stream(TASK, rows(20)))
    assert [body["max_concurrency"] for body in server.batches] == [10, 1, 1, 1]
    (record,) = (record for record in caplog.records if "max_concurrency" in record.message)
    assert "max_concurrency=1" in record.message
    assert "max_in_flight" in record.message


def test_the_size_of_requests_follows_latency(collect: Run) -> None:
    """With a slow program a request has fewer rows, so that it lasts a few seconds; its time limit follows."""
    for options in ({}, {"max_concurrency": 1}):
        server = StandIn(limit=None, item_ms=500)
        outcomes = collect(server, rows(600), timeout_ms=2000, **options)
        assert statuses(outcomes) == {"ok": 600}
        later = server.batches[-10:]
        assert all(len(body["items"]) <= 10 for body in later)
        assert server.requests[-1].timeout == pytest.approx(
            30 + 2 * len(json.loads(server.requests[-1].content)["items"])
        )


@pytest.mark.parametrize("text", UNRUN_TEXTS)
def test_only_texts_of_the_server_count(collect: Run, text: str) -> None:
    """A program may say what it likes: with an execution id its failure is final."""
    server = StandIn(limit=None, fails=0.0)
    outcomes = collect(server, [{"error": text}, {"error": "boom"}])
    assert [outcome.code for outcome in outcomes] == ["program", "program"]
    assert len(server.posts) == 1


def test_a_fake_s_failures_are_final() -> None:
    """Nothing is sent twice, and concurrency stays."""
    fake = FakeLoopai()
    fake.task("t").unknown = True
    with fake.client() as client:
        with pytest.raises(NotFoundException):
            list(client.batch_stream("t", rows(3)))
        assert client._items.one is False
    assert [request.method for request in fake.requests] == ["GET", "POST"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [LoopaiClient, SyncLoopaiClient])
def test_a_thousand_rows_over_a_socket(kind: type) -> None:
    """The whole promise at default options, with the time that executions take."""
    server = StandIn(item_ms=10)
    given = rows(1000)
    with server.served() as url:
        if kind is SyncLoopaiClient:
            with SyncLoopaiClient(url) as client:
                outcomes = list(client.batch_stream(TASK, given))
        else:

            async def gather() -> list[Outcome]:
                async with LoopaiClient(url) as client:
                    return [each async for each in client.batch_stream(TASK, given)]

            outcomes = asyncio.run(gather())
    assert statuses(outcomes) == {"ok": 1000}
    assert all(outcome.output == {"of": outcome.row.input} for outcome in outcomes)
    assert len(server.requests) <= 25
    # The first requests go out together; on a busy machine the last comes to the server when the first is over.
    bodies = [json.loads(request.content) for request in server.posts]
    together = [body for body in bodies if body.get("max_concurrency") != 1]
    assert len(together) <= BatchOptions().max_in_flight
    twice = [name for name, count in server.sent_after_first.items() if count > 1]
    assert {json.loads(name)["n"] for name in twice} <= {
        item["input"]["n"] for body in together for item in body["items"]
    }
    assert max(server.sent_one_at_a_time.values()) == 1


@pytest.mark.parametrize("share", [1, 5, 30])
def test_outputs_that_cannot_be_written_end_their_rows_alone(collect: Run, share: int) -> None:
    """The 500 of such a request carries the limiter's headers: it is split at once, without a pause."""
    server = StandIn(limit=None, fails=0.0)
    given = rows(300)
    bad = [each for each in given if each["n"] % 100 < share]
    for each in bad:
        each["surrogate"] = True
    outcomes = collect(server, given, chunk_size=20)
    assert statuses(outcomes) == {"ok": 300 - len(bad), "error": len(bad)}
    assert {outcome.row.input["n"] for outcome in outcomes if not outcome.ok} == {each["n"] for each in bad}
    assert {outcome.code for outcome in outcomes if not outcome.ok} == {"refused"}
    assert server.now - 1000 < 60, "it slowed down"
    assert len(server.requests) <= 15 + 10 * len(bad)


@pytest.mark.parametrize("share", [1, 5, 30])
def test_replies_that_break_off_end_their_rows_alone(collect: Run, share: int) -> None:
    """A large reply with such an output breaks off: it is asked for once more, and then split."""
    server = StandIn(limit=None, fails=0.0)
    given: list[dict[str, Any]] = [{"n": number, "pad": "x" * 900} for number in range(200)]
    bad = [each for each in given if each["n"] % 100 < share]
    for each in bad:
        each |= {"surrogate": True, "pad": "x" * 20_000}
    outcomes = collect(server, given, chunk_size=20)
    assert {outcome.row.input["n"] for outcome in outcomes if not outcome.ok} == {each["n"] for each in bad}
    assert statuses(outcomes) == {"ok": 200 - len(bad), "error": len(bad)}


def test_a_server_that_dies_while_it_answers_costs_no_row(collect: Run) -> None:
    """Its reply breaks off once; the same chunk goes out again."""
    server = StandIn(limit=None, fails=0.0)
    server.dies_at = 2
    outcomes = collect(server, rows(300))
    assert statuses(outcomes) == {"ok": 300}


def test_a_run_of_nothing_but_such_rows_ends_as_unreachable(collect: Run) -> None:
    """After fifty rows that were tried alone."""
    server = StandIn(limit=None, fails=0.0)
    with pytest.raises(ServerException):
        collect(server, [{"n": number, "surrogate": True} for number in range(500)])
    assert len(server.requests) < 500


def test_a_limiter_that_refuses_for_ever_ends_the_run(collect: Run) -> None:
    """After its longest window, with a text that says what else may stand behind it."""
    server = StandIn(limit=0)
    with pytest.raises(RateLimitException, match=r"for 65 minutes.*X-Real-IP"):
        collect(server, rows(10))
    assert 3900 <= server.now - 1000 < 4200


def test_a_call_with_an_output_that_cannot_be_written_is_not_repeated() -> None:
    """It ran the program: it is a `ServerException`, not the rate limiter's."""
    server = StandIn(limit=None, fails=0.0)
    with client_on(server, SyncLoopaiClient) as client, pytest.raises(ServerException) as caught:
        client.execute(TASK, {"surrogate": True})
    assert not isinstance(caught.value, RateLimitException)
    assert len(server.posts) == 1


def test_a_run_on_an_unknown_task_ends_at_once(collect: Run) -> None:
    """Every item says that there is no such task: nothing more is sent."""
    server = StandIn(limit=None)
    server.artifacts.clear()
    with pytest.raises(NotFoundException, match=TASK):
        collect(server, rows(1000))
    assert len(server.requests) <= 4
