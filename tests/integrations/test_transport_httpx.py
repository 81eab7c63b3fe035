"""What only the httpx transports do: tools that mock httpx see our calls, and a client that a user brings is used."""

from __future__ import annotations

import ssl
import time
from typing import Any

import httpx
import pytest
import respx

from loopai import ConfigurationError, ConnectionException, LoopaiClient, SyncLoopaiClient, TimeoutException

BASE = "http://loopai.example"


@pytest.fixture(params=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


async def test_respx_mocks_our_client(task: str, body_of: Any) -> None:
    """A test of a user's that mocks httpx with respx reaches `LoopaiClient` and `SyncLoopaiClient` alike."""
    with respx.mock(base_url=BASE) as router:
        listed = router.get(f"/api/v1/tasks/{task}/artifacts").respond(json=[])
        route = router.post(f"/api/v1/tasks/{task}/execute").respond(content=body_of("spam"))
        async with LoopaiClient(BASE) as client:
            assert (await client.execute(task, 1)).output == "spam"
        with SyncLoopaiClient(BASE) as client:
            assert client.execute(task, 2).output == "spam"
    assert [call.request.content.decode().count("task_id") for call in route.calls] == [1, 1]
    assert listed.call_count == 2  # before the first execution of each client


async def test_a_mocked_fault_counts_as_arrived_unless_it_is_of_connecting(task: str) -> None:
    """What respx raises is judged by its kind, as there is no connection to tell: only connect faults are safe."""
    options = {"max_retries": 2, "retry_waits": False, "retry_unknown": False}
    for fault, sent in ((httpx.ReadError, 1), (httpx.ReadTimeout, 1), (httpx.ConnectError, 3)):
        with respx.mock(base_url=BASE) as router:
            router.get(f"/api/v1/tasks/{task}/artifacts").respond(404)
            route = router.post(f"/api/v1/tasks/{task}/execute").mock(side_effect=fault("broken"))
            async with LoopaiClient(BASE, **options) as client:
                with pytest.raises(ConnectionException):
                    await client.execute(task, 1)
            assert route.call_count == sent
            with SyncLoopaiClient(BASE, **options) as client, pytest.raises(ConnectionException):
                client.execute(task, 1)
            assert route.call_count == 2 * sent


async def test_pytest_httpx_mocks_our_client(httpx_mock: Any, task: str, body_of: Any) -> None:
    """A test of a user's that mocks httpx with pytest-httpx reaches both clients."""
    httpx_mock.add_response(url=f"{BASE}/api/v1/tasks/{task}/artifacts", json=[], is_reusable=True)
    httpx_mock.add_response(url=f"{BASE}/api/v1/tasks/{task}/execute", content=body_of("ham"), is_reusable=True)
    async with LoopaiClient(BASE) as client:
        assert (await client.execute(task, 1)).output == "ham"
    with SyncLoopaiClient(BASE) as client:
        assert client.execute(task, 2).output == "ham"


async def test_a_brought_client_is_used_as_it_is_and_left_open(server: Any, task: str, library: Any) -> None:
    """Headers, name and connections of a client that the user brings are kept, and it is theirs to close."""
    headers = {"x-team": "mail", "user-agent": "mailer/1"}
    async with library.AsyncClient(headers=headers) as theirs:
        async with LoopaiClient(server.url, http_client=theirs) as client:
            assert (await client.execute(task, "x")).output == "x"
            assert (await client.execute(task, "y")).output == "y"
        assert not theirs.is_closed
    with library.Client(headers=headers) as theirs:
        with SyncLoopaiClient(server.url, http_client=theirs) as client:
            assert client.execute(task, "x").output == "x"
            assert client.execute(task, "y").output == "y"
        assert not theirs.is_closed
    assert {(asked.headers["x-team"], asked.headers["user-agent"]) for asked in server.asked} == {("mail", "mailer/1")}
    assert server.accepted == 2


async def test_a_brought_client_without_a_name_of_its_own_gets_ours(server: Any, task: str, library: Any) -> None:
    """The user agent is ours where the user's client says only what library it is."""
    async with library.AsyncClient() as theirs:
        await LoopaiClient(server.url, http_client=theirs).execute(task, "x")
    assert server.asked[0].headers["user-agent"].startswith("loopai-python/")


async def test_a_brought_clients_own_key_is_kept(server: Any, task: str, library: Any) -> None:
    """Authorization set on the user's client is sent where `api_key` is not given."""
    async with library.AsyncClient(headers={"authorization": "Bearer theirs"}) as theirs:
        await LoopaiClient(server.url, http_client=theirs).execute(task, "x")
        await LoopaiClient(server.url, "ours", http_client=theirs).execute(task, "x")
    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer theirs", "Bearer ours"]


async def test_a_brought_client_follows_no_redirect_to_another_server(
    make_server: Any, server: Any, task: str, library: Any
) -> None:
    """Redirects are followed as without `http_client`, whatever the user's client would do."""

    async def behaviour(asked: Any, wire: Any) -> None:
        await wire.answer(b"", "307 Temporary Redirect", location=server.url + "/elsewhere")

    async with library.AsyncClient(follow_redirects=True) as theirs:
        client = LoopaiClient(make_server(behaviour).url, http_client=theirs, max_retries=0)
        with pytest.raises(Exception, match="set base_url"):
            await client.execute(task, "x")
    assert server.asked == []


@pytest.mark.parametrize("part", ["headers", "body"])
async def test_a_brought_clients_time_is_bounded_as_a_whole(
    make_server: Any, task: str, library: Any, part: str, body_of: Any
) -> None:
    """A dripping reply is cut off by `timeout`, though the user's client bounds each read only."""
    turns = iter(range(100))

    async def behaviour(asked: Any, wire: Any) -> None:
        if part == "body" and next(turns) % 2 == 0:  # the second call finds a connection in use before
            await wire.answer(body_of(asked.input))
            return
        await wire.send(b"HTTP/1.1 200 OK\r\n" + (b"Content-Length: 500\r\n\r\n" if part == "body" else b"X: "))
        await wire.drip(b" " * 500)

    server = make_server(behaviour)
    async with library.AsyncClient(timeout=30) as theirs:
        client = LoopaiClient(server.url, http_client=theirs, timeout=0.4, max_retries=0)
        if part == "body":
            await client.execute(task, "x")
        began = time.monotonic()
        with pytest.raises(TimeoutException):
            await client.execute(task, "x")
        assert time.monotonic() - began < 1.2
    with library.Client(timeout=30) as theirs:
        client = SyncLoopaiClient(server.url, http_client=theirs, timeout=0.4, max_retries=0)
        if part == "body":
            client.execute(task, "x")
        began = time.monotonic()
        with pytest.raises(TimeoutException):
            client.execute(task, "x", version=1)  # on a connection of its own: no look-up before
        assert time.monotonic() - began < 1.2


async def test_a_brought_client_of_the_wrong_kind_is_refused(library: Any) -> None:
    """A synchronous client for `LoopaiClient`, or the reverse, is named when the client is made."""
    async with library.AsyncClient() as theirs:
        with pytest.raises(ConfigurationError, match=r"httpx\.Client is needed"):
            SyncLoopaiClient(http_client=theirs)  # type: ignore[arg-type]  # what is tested
    with library.Client() as theirs, pytest.raises(ConfigurationError, match=r"httpx\.AsyncClient is needed"):
        LoopaiClient(http_client=theirs)  # type: ignore[arg-type]  # what is tested


async def test_connections_of_a_client_share_one_context(
    make_server: Any, task: str, library: Any, monkeypatch: Any
) -> None:
    """Certificates are loaded once a client, not once a connection: each loading costs 34 ms."""
    import asyncio

    made = []
    whole = ssl.SSLContext.load_verify_locations

    def load(*args: Any, **options: Any) -> Any:
        made.append(args)
        return whole(*args, **options)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", load)
    client = LoopaiClient("https://127.0.0.1:9", transport=library.__name__, max_retries=0)
    results = await asyncio.gather(*(client.execute(task, turn) for turn in range(20)), return_exceptions=True)
    assert {type(each) for each in results} == {ConnectionException}
    assert len(made) == 1
