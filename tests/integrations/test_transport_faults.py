"""What servers and networks do wrong, over each transport, sync and async."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import socket
import time
from typing import Any, Callable

import httpx
import psutil
import pytest

from loopai import (
    ConnectionException,
    ExecutionException,
    LoopaiClient,
    LoopaiException,
    NotFoundException,
    RateLimitException,
    ServerException,
    SyncLoopaiClient,
    TimeoutException,
)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


async def test_a_reply_whose_headers_drip_is_cut_off_by_timeout(make_server: Any, make_caller: Any, task: str) -> None:
    """A server that sends its headers byte by byte keeps each read busy and still ends with `timeout`."""

    async def behaviour(asked: Any, wire: Any) -> None:
        await wire.drip(HEAD + b"X-Padding: " + b"x" * 500)

    client = make_caller(make_server(behaviour), timeout=0.4)
    began = time.monotonic()
    with pytest.raises(TimeoutException, match=r"no reply within the timeout of 0\.4 s"):
        await client.execute(task, "x")
    assert 0.3 < time.monotonic() - began < 1.2


async def test_a_reply_whose_body_drips_is_cut_off_by_timeout(make_server: Any, make_caller: Any, task: str) -> None:
    """A server that sends its body byte by byte keeps each read busy and still ends with `timeout`."""

    async def behaviour(asked: Any, wire: Any) -> None:
        await wire.send(HEAD + b"Content-Length: 500\r\n\r\n")
        await wire.drip(b" " * 500)

    client = make_caller(make_server(behaviour), timeout=0.4)
    began = time.monotonic()
    with pytest.raises(TimeoutException, match=r"no reply within the timeout of 0\.4 s"):
        await client.execute(task, "x")
    assert 0.3 < time.monotonic() - began < 1.2


async def test_a_drip_on_a_connection_in_use_before_is_cut_off_too(
    make_server: Any, make_caller: Any, task: str, body_of: Any
) -> None:
    """The bound holds on a connection that served an earlier call, and the call after it gets a fresh one."""
    turns = iter(range(100))

    async def behaviour(asked: Any, wire: Any) -> None:
        if next(turns) == 1:
            await wire.drip(HEAD + b"X-Padding: " + b"x" * 500)
        else:
            await wire.answer(body_of(asked.input))

    server = make_server(behaviour)
    client = make_caller(server, timeout=0.4)
    assert (await client.execute(task, "first")).output == "first"
    began = time.monotonic()
    with pytest.raises(TimeoutException):
        await client.execute(task, "second")
    assert time.monotonic() - began < 1.2
    assert (await client.execute(task, "third")).output == "third"
    assert server.accepted == 2


async def test_a_server_that_never_answers_ends_with_timeout(make_server: Any, make_caller: Any, task: str) -> None:
    """Silence is bounded, too, and the error says how the time was spent."""

    async def behaviour(asked: Any, wire: Any) -> None:
        await wire.hang()

    client = make_caller(make_server(behaviour), timeout=0.3)
    began = time.monotonic()
    with pytest.raises(TimeoutException, match=r"1 attempt in 0\.\d\d s") as caught:
        await client.execute(task, "x")
    assert time.monotonic() - began < 0.9
    assert caught.value.original_exception is not None


async def test_a_refused_connection_may_be_tried_again_by_any_call(make_caller: Any, server: Any, task: str) -> None:
    """Where nobody listens nothing arrived, so that even a call that must not run twice is repeated."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    client = make_caller(server, base_url=address, max_retries=2, retry_waits=False, retry_unknown=False)
    with pytest.raises(ConnectionException, match=r"no reply from http://127\.0\.0\.1") as caught:
        await client.execute(task, "x")
    assert not isinstance(caught.value, TimeoutException)


@pytest.mark.parametrize("fault", ["reset", "close", "half the headers", "half the body", "nonsense"])
async def test_a_reply_that_breaks_off_counts_as_arrived(
    make_server: Any, make_caller: Any, task: str, fault: str
) -> None:
    """Once the request is out the server may have run it: it is repeated only where that is allowed."""

    async def behaviour(asked: Any, wire: Any) -> None:
        if fault == "reset":
            wire.reset()
            return
        if fault == "half the headers":
            await wire.send(HEAD + b"Content-Le")
        if fault == "half the body":
            await wire.send(HEAD + b"Content-Length: 500\r\n\r\n{")
        if fault == "nonsense":
            await wire.send(b"220 mail.example.org ESMTP\r\n\r\n")
        wire.close()

    server = make_server(behaviour)
    once = make_caller(server, max_retries=2, retry_waits=False, retry_unknown=False)
    with pytest.raises(ConnectionException) as caught:
        await once.execute(task, "x")
    assert caught.value.status_code is None
    assert len(server.asked) == 1
    again = make_caller(server, max_retries=2, retry_waits=False)
    with pytest.raises(ConnectionException):
        await again.execute(task, "x")
    assert len(server.asked) == 4


async def test_no_frame_of_a_fault_holds_the_key(make_server: Any, make_caller: Any, task: str) -> None:
    """What a logger with locals, or an error tracker, finds along the chain of causes has no key in it."""

    async def behaviour(asked: Any, wire: Any) -> None:
        wire.close()

    client = make_caller(make_server(behaviour), api_key="loopai-very-secret")
    with pytest.raises(ConnectionException) as caught:
        await client.execute(task, "x")
    assert "loopai-very-secret" not in _everything_along(caught.value.original_exception)


def _everything_along(error: Any) -> str:
    seen: list[str] = []
    while error is not None:
        seen += [repr(error), repr(vars(error))]
        trace = error.__traceback__
        while trace is not None:
            seen.append(repr(trace.tb_frame.f_locals))
            trace = trace.tb_next
        error = error.__cause__ or error.__context__
    return " ".join(seen)


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b'{"execution_id": "c2d3'])
async def test_a_reply_that_is_not_the_servers_keeps_its_status(
    make_server: Any, make_caller: Any, task: str, body: bytes
) -> None:
    """HTML, nothing, or half a document with status 200 raises with the status and the start of the body."""

    async def behaviour(asked: Any, wire: Any) -> None:
        await wire.answer(body, content_type="text/html")

    with pytest.raises(ServerException) as caught:
        await make_caller(make_server(behaviour)).execute(task, "x")
    assert caught.value.status_code == 200
    assert caught.value.response == body.decode()


async def test_a_compressed_reply_is_read(make_server: Any, make_caller: Any, task: str, body_of: Any) -> None:
    """Replies are asked for compressed, and decoded."""

    async def behaviour(asked: Any, wire: Any) -> None:
        assert "gzip" in asked.headers["accept-encoding"]
        await wire.answer(gzip.compress(body_of(asked.input)), content_encoding="gzip")

    assert (await make_caller(make_server(behaviour)).execute(task, "x" * 10_000)).output == "x" * 10_000


@pytest.mark.parametrize("broken", ["cut short", "not gzip"])
async def test_a_compressed_reply_that_is_broken_raises(
    make_server: Any, make_caller: Any, task: str, body_of: Any, broken: str
) -> None:
    """A body that cannot be decoded is an error of its reply, and the next call is right."""
    turns = iter(range(100))

    async def behaviour(asked: Any, wire: Any) -> None:
        whole = body_of(asked.input)
        if next(turns):
            await wire.answer(whole)
        else:
            sent = gzip.compress(whole)[:60] if broken == "cut short" else whole
            await wire.answer(sent, content_encoding="gzip")

    client = make_caller(make_server(behaviour))
    with pytest.raises(LoopaiException):
        await client.execute(task, "x")
    assert (await client.execute(task, "y")).output == "y"


def _sockets_to(server: Any) -> list[Any]:
    found = psutil.Process().net_connections()
    return [each for each in found if each.raddr and each.raddr[1] == server.port]


async def test_an_idle_connection_that_the_server_closed_is_replaced(
    server: Any, make_caller: Any, task: str, transport_name: str
) -> None:
    """Connections are kept and used again; one that the server closed meanwhile is replaced without an error."""
    client = make_caller(server)
    for turn in range(5):
        assert (await client.execute(task, turn)).output == turn
    assert server.accepted == 1
    server.close_connections()
    if transport_name == "pyreqwest":  # its own thread closes what the server closed, and may need a moment
        ends = time.monotonic() + 10
        while _sockets_to(server) and time.monotonic() < ends:  # noqa: ASYNC110  # the kernel tells nobody
            await asyncio.sleep(0.01)
    assert (await client.execute(task, "after")).output == "after"
    assert server.accepted == 2


async def test_a_server_that_closes_after_each_reply_is_no_fault(
    make_server: Any, make_caller: Any, task: str, body_of: Any, sockets: Callable[[], int]
) -> None:
    """`Connection: close` costs a connection a call, and nothing else."""

    async def behaviour(asked: Any, wire: Any) -> None:
        await wire.answer(body_of(asked.input), connection="close")
        wire.close()

    server = make_server(behaviour)
    client = make_caller(server)
    before = sockets()
    for turn in range(20):
        assert (await client.execute(task, turn)).output == turn
    assert server.accepted == 20
    assert sockets() <= before + 1


async def test_a_second_reply_to_a_request_is_never_taken_for_the_next_ones(
    make_server: Any, make_caller: Any, task: str, body_of: Any
) -> None:
    """Bytes after a reply end its connection: read along with it, they would be the reply to another request."""

    async def behaviour(asked: Any, wire: Any) -> None:
        body = body_of(asked.input)
        reply = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        await wire.send(reply + reply)

    client = make_caller(make_server(behaviour))
    assert [(await client.execute(task, turn)).output for turn in range(4)] == [0, 1, 2, 3]


async def test_bodies_of_twenty_megabytes_go_both_ways(server: Any, make_caller: Any, task: str) -> None:
    """A large input reaches the server whole, and a large output comes back whole."""
    large = "0123456789" * 2_000_000
    assert (await make_caller(server).execute(task, large)).output == large


async def test_cookies_are_not_kept(make_server: Any, make_caller: Any, task: str, body_of: Any) -> None:
    """A cookie that a server or proxy sets is not sent back: calls do not depend on each other."""

    async def behaviour(asked: Any, wire: Any) -> None:
        await wire.answer(body_of(asked.input), set_cookie="session=1; Path=/")

    server = make_server(behaviour)
    client = make_caller(server)
    await client.execute(task, 1)
    await client.execute(task, 2)
    assert [("cookie" in asked.headers) for asked in server.asked] == [False, False]


async def test_a_redirect_on_the_same_origin_is_followed(
    make_server: Any, make_caller: Any, task: str, body_of: Any
) -> None:
    """307 to another path of the same server is followed with method and body; the transport itself follows none."""

    async def behaviour(asked: Any, wire: Any) -> None:
        if asked.target.startswith("/moved"):
            await wire.answer(body_of([asked.method, asked.input]))
        else:
            await wire.answer(b"", "307 Temporary Redirect", location="/moved" + asked.target)

    server = make_server(behaviour)
    assert (await make_caller(server).execute(task, "x")).output == ["POST", "x"]
    assert len(server.asked) == 2


async def test_a_redirect_elsewhere_takes_neither_key_nor_call(
    make_server: Any, make_caller: Any, server: Any, task: str
) -> None:
    """A redirect to another origin is an error that says where to, and nothing is sent there."""

    async def behaviour(asked: Any, wire: Any) -> None:
        await wire.answer(b"", "308 Permanent Redirect", location=server.url + "/elsewhere")

    client = make_caller(make_server(behaviour), api_key="loopai-secret")
    with pytest.raises(ServerException, match="set base_url to where it is"):
        await client.execute(task, "x")
    assert server.asked == []


async def test_a_header_that_is_not_ascii_hides_no_status(make_server: Any, make_caller: Any, task: str) -> None:
    """A 429 is repeated, whatever bytes stand in its other headers."""

    async def behaviour(asked: Any, wire: Any) -> None:
        head = (
            b"HTTP/1.1 429 Too Many\r\nX-Served-By: caf\xc3\xa9 \xff\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\n{}"
        )
        await wire.send(head)

    server = make_server(behaviour)
    with pytest.raises(RateLimitException) as raised:
        await make_caller(server, max_retries=2, retry_waits=False).execute(task, "x")
    assert raised.value.status_code == 429
    assert len(server.asked) == 3


async def test_a_key_in_a_broken_status_line_is_scrubbed(make_server: Any, make_caller: Any, task: str) -> None:
    """Whatever the transport says of it; the exception it came from included."""

    async def behaviour(asked: Any, wire: Any) -> None:
        await wire.send(b"HTTP/1.1 oops " + asked.headers["authorization"].encode() + b"\r\n\r\n")
        wire.close()

    client = make_caller(make_server(behaviour), api_key="sk-1234567890", max_retries=0)
    with pytest.raises(ConnectionException) as raised:
        await client.execute(task, "x")
    error: Any = raised.value
    while error is not None:
        assert "sk-1234567890" not in repr(error)
        assert "sk-1234567890" not in str(error)
        error = error.__cause__ or error.__context__ or getattr(error, "original_exception", None)


async def test_a_key_in_a_programs_error_is_scrubbed(
    make_server: Any, make_caller: Any, task: str, body_of: Any
) -> None:
    """In the exception and its result; an output is data, and stays as it is."""

    async def behaviour(asked: Any, wire: Any) -> None:
        found = {**json.loads(body_of(asked.input)), "status": asked.input}
        if asked.input == "error":
            found["error_message"] = f"no access with {asked.headers['authorization']}"
        else:
            found["output"] = {"said": asked.headers["authorization"], "error_count": 0}
        await wire.answer(json.dumps(found).encode())

    client = make_caller(make_server(behaviour), api_key="sk-1234567890")
    with pytest.raises(ExecutionException) as raised:
        await client.execute(task, "error")
    assert "sk-1234567890" not in f"{raised.value!r} {raised.value.result!r}"
    assert (await client.execute(task, "success")).output["said"] == "Bearer sk-1234567890"


async def test_idle_connections_that_the_server_closed_are_closed(
    make_server: Any, make_caller: Any, task: str, sockets: Any, transport_name: str
) -> None:
    """A burst leaves no half-closed sockets behind, without another call."""
    if transport_name == "pyreqwest":
        pytest.skip("looks after its own")
    server = make_server()
    client = make_caller(server)
    await asyncio.gather(*(client.execute(task, turn) for turn in range(5)))

    def waiting() -> list[Any]:
        return [each for each in _sockets_to(server) if each.status == "CLOSE_WAIT"]

    server.close_connections()
    ends = time.monotonic() + 10
    while not waiting() and time.monotonic() < ends - 9:  # noqa: ASYNC110  # the kernel tells nobody
        await asyncio.sleep(0.01)
    while waiting() and time.monotonic() < ends:  # noqa: ASYNC110  # as above
        await asyncio.sleep(0.05)
    assert waiting() == []
    assert (await client.execute(task, "after")).output == "after"


def test_a_hook_that_raises_for_a_status_keeps_it(make_server: Any, task: str) -> None:
    """A client of the user's that calls `raise_for_status` on its own: a 404 is not found, and not repeated."""

    async def behaviour(asked: Any, wire: Any) -> None:
        await wire.answer(b'{"code": "TASK_NOT_FOUND", "message": "no such task"}', "404 Not Found")

    def reads(response: httpx.Response) -> None:
        response.read()
        response.raise_for_status()

    async def areads(response: httpx.Response) -> None:
        response.raise_for_status()

    server = make_server(behaviour)
    for hook in (httpx.Response.raise_for_status, reads):
        with httpx.Client(event_hooks={"response": [hook]}) as brought:
            client = SyncLoopaiClient(server.url, http_client=brought, retry_waits=False)
            with pytest.raises(NotFoundException) as raised:
                client.execute(task, 1)
            assert raised.value.code == ("TASK_NOT_FOUND" if hook is reads else None)

    async def main() -> None:
        async with httpx.AsyncClient(event_hooks={"response": [areads]}) as brought:
            with pytest.raises(NotFoundException):
                await LoopaiClient(server.url, http_client=brought, retry_waits=False).execute(task, 1)

    asyncio.run(main())
    assert len(server.asked) == 3


class Interrupted(Exception):
    """What the handler of a signal raises."""


# A socket whose making was interrupted is closed when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("transport", ["httpx", "pyreqwest"])
def test_an_exception_of_a_signal_handler_loses_no_slot(server: Any, task: str, transport: str) -> None:
    """Celery's soft time limits raise between any two steps of a call; the next call finds its slot."""
    pytest.importorskip(transport)

    def interrupt(*_: Any) -> None:
        raise Interrupted

    client = SyncLoopaiClient(server.url, transport=transport, max_connections=1, max_retries=0, deadline=5)
    # pydantic builds a model when it is first used, and would make an error of its own of the exception.
    client.execute(task, 0, version=1)
    client.list_artifacts(task)
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        for turn in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00002 + turn * 0.00001)
                client.execute(task, turn)
            except Interrupted:
                interrupted += 1
            except LoopaiException:
                pass  # the transport has made a fault of it
            try:
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupted:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 20
    assert client.execute(task, "after").output == "after"
    client.close()
