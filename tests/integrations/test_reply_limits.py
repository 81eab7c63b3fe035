"""Replies are bounded while they arrive, over each transport, and what a server says at length is cut."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
import time
import zlib
from typing import Any

import httpx
import pytest

from loopai import LoopaiClient, RateLimitException, ServerException, SyncLoopaiClient, TimeoutException
from loopai.exceptions import ExecutionException, ReplyTooLargeException

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def whole(body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return HEAD + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("coding", [None, b"gzip", b"deflate", b"bare deflate"])
async def test_a_reply_up_to_the_limit_is_read_and_one_above_is_not(
    make_server: Any, make_caller: Any, transport_name: str, task: str, body_of: Any, coding: Any
) -> None:
    """Decoded bytes count; the connection that is given up leaves the client usable."""
    if (coding, transport_name) == (b"bare deflate", "pyreqwest"):
        pytest.skip("it reads deflate as the standard has it only")

    async def behaviour(asked: Any, wire: Any) -> None:
        body = body_of("x" * asked.input)
        if coding is None:
            await wire.send(whole(body))
        elif coding == b"gzip":
            await wire.send(whole(gzip.compress(body), b"Content-Encoding: gzip"))
        elif coding == b"deflate":
            await wire.send(whole(zlib.compress(body), b"Content-Encoding: deflate"))
        else:
            bare = zlib.compressobj(wbits=-15)
            await wire.send(whole(bare.compress(body) + bare.flush(), b"Content-Encoding: deflate"))

    client = make_caller(make_server(behaviour), max_reply_bytes=len(body_of("")) + 1000, max_retries=0)
    assert (await client.execute(task, 1000)).output == "x" * 1000
    with pytest.raises(ReplyTooLargeException, match="max_reply_bytes") as raised:
        await client.execute(task, 1001)
    assert raised.value.status_code == 200
    assert (await client.execute(task, 10)).output == "x" * 10


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "ZSTD", "deflate,br"])
async def test_a_coding_that_was_not_asked_for_is_not_unpacked(
    make_server: Any, make_caller: Any, transport_name: str, task: str, body_of: Any, coding: str
) -> None:
    """HTTP libraries unpack those in pieces of any size: 3 KB of "gzip, gzip" came to 4 GB."""
    if transport_name == "pyreqwest":
        pytest.skip("it unpacks no more than is read")

    async def behaviour(asked: Any, wire: Any) -> None:
        content = gzip.compress(gzip.compress(body_of("x")))
        await wire.answer(content, content_encoding=coding)

    with pytest.raises(ServerException, match=f"its coding is '{coding.replace(',b', ', b').lower()}'") as raised:
        await make_caller(make_server(behaviour)).execute(task, 1)
    assert raised.value.status_code == 200


async def test_a_coding_that_names_nothing_leaves_the_body_as_it_is(
    make_server: Any, make_caller: Any, task: str, body_of: Any
) -> None:
    """Some servers write the character set there."""

    async def behaviour(asked: Any, wire: Any) -> None:
        await wire.answer(body_of(asked.input), content_encoding="utf-8")

    assert (await make_caller(make_server(behaviour)).execute(task, 1)).output == 1


@pytest.mark.parametrize("framing", ["chunked", "until closed", "announced"])
async def test_a_reply_without_end_is_given_up(make_server: Any, make_caller: Any, task: str, framing: str) -> None:
    """Whatever the time limit, at the number of bytes; a body that announces its length likewise."""
    sent = 0

    async def behaviour(asked: Any, wire: Any) -> None:
        nonlocal sent
        heads = {"chunked": b"Transfer-Encoding: chunked", "announced": b"Content-Length: 99999999999"}
        await wire.send(HEAD + heads.get(framing, b"Connection: close") + b"\r\n\r\n")
        part = b"[" * 65536
        while True:
            await wire.send(b"10000\r\n" + part + b"\r\n" if framing == "chunked" else part)
            sent += len(part)

    client = make_caller(make_server(behaviour), max_reply_bytes=1_000_000, timeout=None, max_retries=3)
    with pytest.raises(ReplyTooLargeException):
        await client.execute(task, 1)


async def test_an_endless_reply_keeps_its_time_limit(make_server: Any, make_caller: Any, task: str) -> None:
    """Where no number of bytes bounds it, `timeout` does, however fast it comes."""

    async def behaviour(asked: Any, wire: Any) -> None:
        await wire.send(HEAD + b"Connection: close\r\n\r\n")
        while True:
            await wire.send(b" " * 1000)
            await asyncio.sleep(0.001)

    client = make_caller(make_server(behaviour), max_reply_bytes=None, timeout=0.5, max_retries=0)
    began = time.monotonic()
    with pytest.raises(TimeoutException):
        await client.execute(task, 1)
    assert time.monotonic() - began < 2


async def test_a_large_error_keeps_its_status(make_server: Any, make_caller: Any, task: str) -> None:
    """A 429 is repeated, and known as one, whatever the size of its body; the text is cut."""
    asked_for = []

    async def behaviour(asked: Any, wire: Any) -> None:
        asked_for.append(1)
        await wire.answer(json.dumps({"message": "m" * 2_000_000}).encode(), "429 Too Many Requests")

    for limit in (1_000_000, 64_000_000):
        asked_for.clear()
        client = make_caller(make_server(behaviour), max_reply_bytes=limit, max_retries=2, retry_waits=False)
        with pytest.raises(RateLimitException) as raised:
            await client.execute(task, 1)
        assert len(asked_for) == 3
        assert len(str(raised.value)) < 5_000
        assert len(repr(raised.value.response)) < 5_000


async def test_a_programs_long_error_is_cut_where_it_is_raised(
    make_server: Any, make_caller: Any, task: str, body_of: Any
) -> None:
    """The exception says the start of it; the result has all of it."""

    async def behaviour(asked: Any, wire: Any) -> None:
        found = {**json.loads(body_of(None)), "status": "error", "error_message": "e" * 1_000_000}
        await wire.answer(json.dumps(found).encode())

    client = make_caller(make_server(behaviour))
    with pytest.raises(ExecutionException) as raised:
        await client.execute(task, 1)
    assert len(str(raised.value)) < 5_000
    assert len(raised.value.result.error_message) == 1_000_000


async def test_a_client_of_ones_own_is_bounded_too(make_server: Any, task: str, body_of: Any) -> None:
    """Whatever reads the reply, hooks of theirs included."""

    async def behaviour(asked: Any, wire: Any) -> None:
        await wire.send(whole(gzip.compress(body_of("x" * 5_000)), b"Content-Encoding: gzip"))

    server = make_server(behaviour)

    def reads(response: httpx.Response) -> None:
        response.read()

    for hooks in ({}, {"response": [reads]}):
        with httpx.Client(event_hooks=hooks) as brought:
            client = SyncLoopaiClient(server.url, http_client=brought, max_reply_bytes=1_000, max_retries=0)
            with pytest.raises(ReplyTooLargeException):
                await asyncio.to_thread(client.execute, task, 1)
    async with httpx.AsyncClient() as theirs:
        async_client = LoopaiClient(server.url, http_client=theirs, max_reply_bytes=1_000, max_retries=0)
        with pytest.raises(ReplyTooLargeException):
            await async_client.execute(task, 1)


async def test_coalesced_calls_are_sent_in_halves_until_the_one_at_fault_is_alone(
    make_server: Any, transport_name: str, task: str, body_of: Any
) -> None:
    """Its caller gets the error, all others their results."""

    async def behaviour(asked: Any, wire: Any) -> None:
        body = json.loads(asked.body)
        if "items" not in body:
            await wire.answer(body_of("x" * body["input"]))
            return
        given = {"success": True, "latency_ms": 1}
        results = [{"id": item["id"], "output": "x" * item["input"], **given} for item in body["items"]]
        counts = {"total_items": len(results), "success_count": len(results), "failure_count": 0}
        batch = {"batch_id": task, "task_id": task, "results": results, **counts}
        await wire.answer(json.dumps(batch).encode())

    server = make_server(behaviour)
    async with LoopaiClient(server.url, transport=transport_name, coalesce=True, max_reply_bytes=5_000) as client:
        sizes = [1, 2, 20_000, 3, 4]
        each = await asyncio.gather(*(client.execute(task, size) for size in sizes), return_exceptions=True)
    assert isinstance(each[2], ReplyTooLargeException)
    assert [one.output for place, one in enumerate(each) if place != 2] == ["x" * size for size in (1, 2, 3, 4)]  # type: ignore[union-attr]  # results


BOMB = """
import gzip, resource, sys
from loopai import SyncLoopaiClient
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    SyncLoopaiClient(sys.argv[1], transport=sys.argv[2], max_retries=0, max_reply_bytes=1_000_000).get_health()
except Exception as error:
    print(type(error).__name__, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
async def test_a_bomb_costs_no_memory(make_server: Any, transport_name: str) -> None:
    """Half a megabyte that unpacks to half a gigabyte."""
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b"0" * 2**20) for _ in range(512)) + packer.flush()

    async def behaviour(asked: Any, wire: Any) -> None:
        await wire.send(whole(bomb, b"Content-Encoding: gzip"))

    server = make_server(behaviour)
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", BOMB, server.url, transport_name], capture_output=True, text=True
    )
    kind, _, megabytes = done.stdout.partition(" ")
    assert kind == "ReplyTooLargeException", done.stderr
    assert int(megabytes) < 40


def test_a_transport_of_ones_own_is_bounded_as_well() -> None:
    """An object that takes no notice of `max_bytes`."""
    from loopai._core.wire import Reply

    class Whole:
        def send(self, request: Any) -> Reply:
            return Reply(200, {}, b'{"status": "healthy", "padding": "' + b"x" * 2000 + b'"}')

        def close(self) -> None:
            """Hold nothing."""

    with pytest.raises(ReplyTooLargeException), SyncLoopaiClient(transport=Whole(), max_reply_bytes=1000) as client:
        client.get_health()
    assert issubclass(ReplyTooLargeException, ServerException)
