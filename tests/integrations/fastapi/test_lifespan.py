"""`LoopaiLifespan`: when clients are made, what they run by, and when they are closed."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import uuid4

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.testclient import TestClient

from loopai import ConfigurationError, ConnectionException, LoopaiClient, NotFoundException, SyncLoopaiClient
from loopai.batch import Stop
from loopai.contrib.fastapi import (
    LoopaiDep,
    LoopaiLifespan,
    LoopaiSettings,
    SyncLoopaiDep,
    WebhookEventDep,
    batch_router,
    get_loopai,
    health_router,
    install_loopai,
    loopai_lifespan,
    webhook_router,
)
from loopai.contrib.fastapi.testing import override_loopai, running
from loopai.testing import FakeLoopai


def app_with(lifespan) -> FastAPI:
    """An application that runs the task `echo` of its client."""
    app = FastAPI(lifespan=lifespan)

    @app.post("/run")
    async def run(text: str, ai: LoopaiDep, task: str = "echo"):
        return (await ai.execute(task, text)).output

    @app.get("/client")
    async def client(ai: LoopaiDep):
        return {"id": id(ai), "base_url": ai.base_url, "timeout": ai.timeout}

    return app


@pytest.fixture
def settings(server, task):
    """Settings for the raw server, which echoes."""
    return LoopaiSettings(base_url=server.url, tasks={"echo": task}, max_retries=0)


def test_a_route_calls_the_server_with_one_client_for_all_requests(settings, server) -> None:
    """The client is made at start-up, and its connection serves one request after the other."""
    with TestClient(app_with(LoopaiLifespan(settings))) as client:
        assert [client.post("/run", params={"text": text}).json() for text in "abc"] == ["a", "b", "c"]
        assert len({client.get("/client").json()["id"] for _ in range(3)}) == 1
    assert server.accepted == 1


def test_without_settings_environment_and_env_file_count(tmp_path, monkeypatch) -> None:
    """They are read when the application starts, not when the module is imported."""
    app = app_with(loopai_lifespan)
    (tmp_path / ".env").write_text("LOOPAI_BASE_URL=http://file.test\nLOOPAI_TIMEOUT=7\nOTHER=1\nLOOPAI_UNKNOWN=1\n")
    monkeypatch.setenv("LOOPAI_BASE_URL", "http://environment.test")
    with TestClient(app) as client:
        found = client.get("/client").json()
    assert found["base_url"] == "http://environment.test"
    assert found["timeout"] == 7


def test_two_applications_with_one_lifespan_share_nothing() -> None:
    """`loopai_lifespan` is one object for the whole process; each application gets clients of its own."""
    with TestClient(app_with(loopai_lifespan)) as one, TestClient(app_with(loopai_lifespan)) as other:
        assert one.get("/client").json()["id"] != other.get("/client").json()["id"]


def test_one_application_started_twice_has_a_new_client_each_time(settings) -> None:
    """The second start does not get what the first one closed."""
    app = app_with(LoopaiLifespan(settings))
    for _ in range(2):
        with TestClient(app) as client:
            assert client.post("/run", params={"text": "again"}).json() == "again"


def test_the_lifespan_cannot_be_changed() -> None:
    """What one application did to it would reach the others."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        loopai_lifespan.settings = LoopaiSettings()  # type: ignore[misc]
    aliases = {"eu": LoopaiSettings(base_url="http://eu.test")}
    lifespan = LoopaiLifespan(aliases=aliases)
    aliases["us"] = LoopaiSettings(base_url="http://us.test")
    assert set(lifespan.aliases) == {"eu"}
    with pytest.raises(TypeError):
        lifespan.aliases["us"] = aliases["us"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"aliases": {"default": LoopaiSettings()}}, "'default' is what `settings` configures"),
        (
            {"settings": {"base_url": "http://a.test"}},
            "settings must be LoopaiSettings, a LoopaiClient or a FakeLoopai, not dict",
        ),
        ({"aliases": {"eu": "http://eu.test"}}, "eu must be LoopaiSettings, a LoopaiClient or a FakeLoopai, not str"),
    ],
)
def test_wrong_arguments_are_refused_where_they_are_written(arguments, told) -> None:
    """Not when the application starts."""
    with pytest.raises(ConfigurationError, match=told):
        LoopaiLifespan(**arguments)


def test_only_the_settings_go_without_their_name(settings) -> None:
    """What another version adds cannot change what an argument means."""
    assert LoopaiLifespan(settings).settings is settings
    with pytest.raises(TypeError, match="positional"):
        LoopaiLifespan(settings, {"eu": settings})  # type: ignore[misc]


def test_a_synchronous_client_is_refused() -> None:
    """It would block the loop."""
    with SyncLoopaiClient() as client, pytest.raises(ConfigurationError, match="not SyncLoopaiClient"):
        LoopaiLifespan(client)


def test_a_client_of_the_user_s_is_used_and_never_closed(settings, server) -> None:
    """After the application it still works, with its own connections."""

    async def run() -> None:
        async with LoopaiClient(**settings.arguments()) as mine:
            async with running(app_with(LoopaiLifespan(mine, aliases={"again": mine}))):
                pass
            assert (await mine.execute("echo", 1)).output == 1

    asyncio.run(run())


def test_an_http_client_of_the_user_s_brings_its_address(monkeypatch) -> None:
    """Unless the settings name another."""
    monkeypatch.delenv("LOOPAI_BASE_URL", raising=False)
    brought = httpx.AsyncClient(base_url="https://own.test")
    for settings, address in (
        (LoopaiSettings(_env_file=None), "https://own.test"),
        (LoopaiSettings(base_url="https://set.test"), "https://set.test"),
    ):
        app = FastAPI(lifespan=LoopaiLifespan(settings, http_client=brought))
        with TestClient(app) as client:
            assert client.app_state["loopai"].client().base_url == address


def test_the_inner_lifespan_runs_inside_and_its_state_arrives(settings) -> None:
    """Its shutdown comes before the clients close, and its state beside theirs."""
    told: list[str] = []

    @asynccontextmanager
    async def mine(app):
        async with loopai_lifespan_of_mine(app) as state:
            client = state["loopai"].client()
            told.append((await client.execute("echo", "started")).output)
            yield {"mine": "here", **state}
            told.append((await client.execute("echo", "stopping")).output)

    loopai_lifespan_of_mine = LoopaiLifespan(settings)

    @asynccontextmanager
    async def inner(app):
        told.append(f"inner of {app.title}")
        yield {"inner": "there"}
        told.append("inner over")

    for lifespan, key, value in ((mine, "mine", "here"), (LoopaiLifespan(settings, inner=inner), "inner", "there")):
        app = app_with(lifespan)

        @app.get("/state")
        async def state(request: Request, ai: LoopaiDep, key: str = key):
            return getattr(request.state, key)

        with TestClient(app) as client:
            assert client.get("/state").json() == value
            assert client.post("/run", params={"text": "on"}).json() == "on"
    assert told == ["started", "stopping", "inner of FastAPI", "inner over"]


def test_an_inner_lifespan_need_not_yield_anything(settings) -> None:
    """As in Starlette."""

    @asynccontextmanager
    async def inner(app):
        yield

    with TestClient(app_with(LoopaiLifespan(settings, inner=inner))) as client:
        assert client.post("/run", params={"text": "a"}).json() == "a"


def test_the_lifespan_survives_included_routers_with_lifespans(settings) -> None:
    """`include_router` merges lifespans into functions of its own."""
    ran = []

    @asynccontextmanager
    async def of_the_router(app):
        ran.append(app)
        yield {"router": 1}

    app = app_with(LoopaiLifespan(settings))
    app.include_router(APIRouter(lifespan=of_the_router))
    with TestClient(app) as client:
        assert client.post("/run", params={"text": "a"}).json() == "a"
    assert len(ran) == 1


def test_the_server_is_asked_at_startup_only_on_request(settings, server) -> None:
    """`check_on_startup` is off by default: an application may start before its server does."""
    for check, asked in ((False, 0), (True, 1)):

        async def alive(asked, wire) -> None:
            await wire.answer(b'{"status":"alive","timestamp":"2025-11-03T08:16:05Z"}')

        server.behaviour = alive
        with TestClient(app_with(LoopaiLifespan(settings.model_copy(update={"check_on_startup": check})))):
            assert len(server.asked) == asked


def test_a_server_that_does_not_answer_fails_the_start(settings) -> None:
    """With the address in the error; the other alias is closed as well."""
    absent = LoopaiSettings(base_url="http://127.0.0.1:1", max_retries=0, check_on_startup=True)
    with (
        pytest.raises(ConnectionException, match=r"127\.0\.0\.1:1"),
        TestClient(app_with(LoopaiLifespan(settings, aliases={"absent": absent}))),
    ):
        raise AssertionError("started")


class Gate:
    """A behaviour of the raw server that answers once it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, body_of):
        async def behave(asked, wire) -> None:
            self.reached.set()
            await asyncio.get_running_loop().run_in_executor(None, self.opened.wait, 20)
            await wire.answer(body_of(asked.input))

        return behave


async def test_closing_waits_for_the_calls_in_flight(settings, server, body_of) -> None:
    """A task that outlives its request gets its reply before the connections are closed."""
    gate = Gate()
    server.behaviour = gate(body_of)
    leave = asyncio.Event()
    calls = []

    async def live() -> None:
        async with LoopaiLifespan(settings)(FastAPI()) as state:
            calls.append(asyncio.ensure_future(state["loopai"].client().execute("echo", "async")))
            await leave.wait()

    life = asyncio.ensure_future(live())
    await asyncio.to_thread(gate.reached.wait, 10)
    leave.set()
    # The lifespan would be over now if it did not wait: what it does takes a few turns of the loop.
    for _ in range(100):
        await asyncio.sleep(0)
    assert not life.done()
    gate.opened.set()
    await asyncio.wait_for(life, 10)
    assert (await calls[0]).output == "async"


async def test_closing_waits_for_the_calls_of_threads(settings, server, body_of) -> None:
    """A `def` route's client is closed after its calls, too."""
    gate = Gate()
    server.behaviour = gate(body_of)
    leave = asyncio.Event()
    calls = []

    async def live() -> None:
        async with LoopaiLifespan(settings)(FastAPI()) as state:
            calls.append(
                asyncio.ensure_future(asyncio.to_thread(state["loopai"].sync_client().execute, "echo", "sync"))
            )
            await leave.wait()

    life = asyncio.ensure_future(live())
    await asyncio.to_thread(gate.reached.wait, 10)
    leave.set()
    for _ in range(100):
        await asyncio.sleep(0)
    assert not life.done()
    gate.opened.set()
    await asyncio.wait_for(life, 10)
    assert (await calls[0]).output == "sync"


async def test_closing_waits_for_a_batch_between_its_calls(settings) -> None:
    """A background task's, whose rows come slowly: no call of it need be under way."""
    waiting, more, leave = asyncio.Event(), asyncio.Event(), asyncio.Event()
    batches = []

    async def rows():
        waiting.set()
        await more.wait()
        for row in ():
            yield row

    async def collect(client):
        return [outcome async for outcome in client.batch_stream("echo", rows())]

    async def live() -> None:
        async with LoopaiLifespan(settings)(FastAPI()) as state:
            batches.append(asyncio.ensure_future(collect(state["loopai"].client())))
            await leave.wait()

    life = asyncio.ensure_future(live())
    await asyncio.wait_for(waiting.wait(), 10)
    leave.set()
    for _ in range(100):
        await asyncio.sleep(0)
    assert not life.done()
    more.set()
    await asyncio.wait_for(life, 10)
    assert await batches[0] == []


@pytest.mark.parametrize("grace", [0.0, 0.05])
async def test_the_wait_is_bounded_by_the_grace(settings, server, body_of, grace) -> None:
    """A call that never ends does not keep the process from ending."""
    gate = Gate()
    server.behaviour = gate(body_of)
    hanging = settings.model_copy(update={"close_grace": grace})
    async with LoopaiLifespan(hanging)(FastAPI()) as state:
        call = asyncio.ensure_future(state["loopai"].client().execute("echo", "late"))
        await asyncio.to_thread(gate.reached.wait, 10)
    assert not call.done()
    gate.opened.set()
    assert (await call).output == "late"  # what was under way may end; its connection is closed then
    server.wait_until(lambda: server.open == 0)


async def test_clients_are_closed_at_shutdown(settings, server) -> None:
    """A call that comes later says so, and no socket stays open."""
    async with LoopaiLifespan(settings)(FastAPI()) as state:
        client, sync_client = state["loopai"].client(), state["loopai"].sync_client()
        await client.execute("echo", 1)
        await asyncio.to_thread(sync_client.execute, "echo", 1)
        assert server.open == 2
    with pytest.raises(RuntimeError, match="closed"):
        await client.execute("echo", 1)
    with pytest.raises(RuntimeError, match="closed"):
        sync_client.execute("echo", 1)
    server.wait_until(lambda: server.open == 0)


async def test_clients_are_closed_when_the_inner_lifespan_fails(settings, server) -> None:
    """Whether it fails while it starts or while it ends."""
    kept = []

    @asynccontextmanager
    async def inner(app):
        yield
        raise LookupError("inner")

    with pytest.raises(LookupError):
        async with LoopaiLifespan(settings, inner=inner)(FastAPI()) as state:
            kept.append(state["loopai"].client())
    with pytest.raises(RuntimeError, match="closed"):
        await kept[0].execute("echo", 1)


def test_in_flight_requests_end_before_uvicorn_closes_the_clients(settings, server, body_of, serve) -> None:
    """With real sockets: the server is told to stop while a route waits for Loopai."""
    import httpx

    gate = Gate()
    server.behaviour = gate(body_of)
    served = serve(app_with(LoopaiLifespan(settings)))
    replies = []
    asking = threading.Thread(
        target=lambda: replies.append(httpx.post(f"{served.url}/run", params={"text": "late"}, timeout=20))
    )
    asking.start()
    assert gate.reached.wait(10)
    served.server.should_exit = True
    gate.opened.set()
    asking.join(20)
    served.stop()
    assert replies[0].json() == "late"
    server.wait_until(lambda: server.open == 0)


def test_a_def_route_gets_the_synchronous_twin(settings, server) -> None:
    """Configured alike; made when the first route asks for it, once."""
    app = app_with(LoopaiLifespan(settings))

    @app.post("/sync")
    def sync(text: str, ai: SyncLoopaiDep):
        assert isinstance(ai, SyncLoopaiClient)
        return {"id": id(ai), "output": ai.execute("echo", text).output, "thread": threading.current_thread().name}

    with TestClient(app) as client:
        found = [client.post("/sync", params={"text": text}).json() for text in "ab"]
    assert [each["output"] for each in found] == ["a", "b"]
    assert found[0]["id"] == found[1]["id"]
    assert all(each["thread"] != threading.current_thread().name for each in found)


def test_install_loopai_keeps_the_lifespan_that_is_there(loopai_fake) -> None:
    """Its state, and what it does at either end."""
    loopai_fake.task("echo").computes(lambda given: given)
    ran = []

    @asynccontextmanager
    async def mine(app):
        ran.append("start")
        yield {"mine": 1}
        ran.append("end")

    app = app_with(mine)
    install_loopai(app, loopai_fake)
    with pytest.raises(ConfigurationError, match="already"):
        install_loopai(app)
    with TestClient(app) as client:
        assert client.post("/run", params={"text": "a"}).json() == "a"
        assert ran == ["start"]
    assert ran == ["start", "end"]


def test_a_lifespan_in_the_place_of_settings_is_told_its_argument() -> None:
    """It is what people try first."""
    with pytest.raises(ConfigurationError, match="inner="):
        LoopaiLifespan(lambda app: None)  # type: ignore[arg-type]  # the mistake


@pytest.mark.parametrize(
    ("router", "told"),
    [
        (batch_router("spam", alias="absent"), "absent"),
        (webhook_router(on_event=print), "LOOPAI_WEBHOOK_SECRETS"),
    ],
)
def test_routers_that_cannot_work_fail_the_start(router, told) -> None:
    """An alias that nobody made, or no webhook secret."""
    app = FastAPI(lifespan=loopai_lifespan)
    app.include_router(router)
    with pytest.raises(ConfigurationError, match=told), TestClient(app):
        pass


def with_batches(settings, task="spam", **lifespan) -> FastAPI:
    """An application whose one router runs a task."""
    app = FastAPI(lifespan=LoopaiLifespan(settings, **lifespan))
    app.include_router(batch_router(task))
    return app


@pytest.mark.parametrize("every", [False, True])
def test_the_task_names_of_batch_routers_are_checked_at_startup(tmp_path, every) -> None:
    """A name that the server does not know fails the start; one that the lifespan inside makes does not."""
    pytest.importorskip("pydantic_monty", reason="the embedded server runs programs in it")

    @asynccontextmanager
    async def making(app):
        async with LoopaiClient.local(tmp_path) as client:
            await client.create_task("spam", description="-", input_schema={}, output_schema={})
        yield

    settings = LoopaiSettings(local=str(tmp_path), check_on_startup=every)
    with pytest.raises(NotFoundException, match="spam"), TestClient(with_batches(settings)):
        raise AssertionError("started")
    with TestClient(with_batches(settings, inner=making)):
        pass
    with TestClient(with_batches(settings)):
        pass


@pytest.mark.parametrize("every", [False, True])
def test_a_server_that_cannot_look_up_names_fails_the_start(server, every) -> None:
    """With what to do; under an override, and for a name that the client itself knows, nobody is asked."""

    async def no_names(asked, wire) -> None:
        alive = b'{"status":"alive","timestamp":"2025-11-03T08:16:05Z"}'
        await (wire.answer(alive) if asked.target.endswith("live") else wire.answer(b"", "404 Not Found"))

    server.behaviour = no_names
    settings = LoopaiSettings(base_url=server.url, max_retries=0, check_on_startup=every)
    app = with_batches(settings)
    with pytest.raises(ConfigurationError, match="LOOPAI_TASKS"), TestClient(app):
        raise AssertionError("started")
    asked = len(server.asked)
    with override_loopai(app, FakeLoopai()), TestClient(app):
        pass
    known = settings.model_copy(update={"tasks": {"spam": str(uuid4())}, "check_on_startup": False})
    with TestClient(with_batches(known)), TestClient(with_batches(FakeLoopai())):
        pass
    assert not [request for request in server.asked[asked:] if "task" in request.target]


def test_a_task_s_id_is_asked_for_at_startup_only_on_request(server) -> None:
    """It is spelled right, and nothing but the run needs the server."""

    async def no_tasks(asked, wire) -> None:
        alive = b'{"status":"alive","timestamp":"2025-11-03T08:16:05Z"}'
        missing = b'{"code":"TASK_NOT_FOUND","message":"Task not found"}'
        await (wire.answer(alive) if asked.target.endswith("live") else wire.answer(missing, "404 Not Found"))

    server.behaviour = no_tasks
    settings = LoopaiSettings(base_url=server.url, max_retries=0)
    task = uuid4()
    with TestClient(with_batches(settings, task)):
        assert server.asked == []
    asking = settings.model_copy(update={"check_on_startup": True})
    with pytest.raises(NotFoundException), TestClient(with_batches(asking, task)):
        raise AssertionError("started")


def test_a_server_that_does_not_answer_yet_does_not_keep_an_application_from_starting(caplog) -> None:
    """The name cannot be looked up: the log says so, and the first request looks."""
    with TestClient(with_batches(LoopaiSettings(base_url="http://127.0.0.1:9"))):
        pass
    assert "task 'spam' cannot be looked up yet" in caplog.text


def about(event: WebhookEventDep) -> str:
    return event.event_type


def test_secrets_of_a_dependency_are_checked_at_startup() -> None:
    """As those of `webhook_router` are, wherever the dependency stands."""
    app = FastAPI(lifespan=loopai_lifespan)

    @app.post("/deep")
    async def deep(told: Annotated[str, Depends(about)]) -> str:
        return told

    with pytest.raises(ConfigurationError, match="LOOPAI_WEBHOOK_SECRETS"), TestClient(app):
        raise AssertionError("started")


def test_an_override_reaches_middleware(loopai_fake) -> None:
    """Which calls `get_loopai` itself, where FastAPI overrides nothing."""
    loopai_fake.task("echo").computes(lambda given: given)
    app = FastAPI()

    @app.middleware("http")
    async def ask(request: Request, call_next):
        found = await (await get_loopai(request)).execute("echo", "from middleware")
        response = await call_next(request)
        response.headers["x-found"] = found.output
        return response

    app.include_router(health_router())
    with override_loopai(app, loopai_fake):
        reply = TestClient(app).head("/health/live")
        assert (reply.status_code, reply.headers["x-found"]) == (200, "from middleware")


@pytest.fixture
def handled() -> Iterator[list[str]]:
    """What the server's own handler of SIGTERM was told."""
    told: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append("server"))
    yield told
    signal.signal(signal.SIGTERM, before)


async def test_the_server_s_signal_handler_is_chained_and_restored(settings, handled) -> None:
    """Batches are stopped, the server's handler runs all the same, and afterwards it is as it was."""
    theirs = signal.getsignal(signal.SIGTERM)
    app = FastAPI(lifespan=LoopaiLifespan(settings))
    stop = Stop(0.0)
    async with app.router.lifespan_context(app) as state:
        state["loopai"].add_batch(stop)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0)
        assert (stop.requested, handled) == (True, ["server"])
    assert signal.getsignal(signal.SIGTERM) is theirs


async def test_a_signal_handler_that_was_set_since_stays(settings, handled) -> None:
    """It is not ours to remove."""
    app = FastAPI(lifespan=LoopaiLifespan(settings))
    async with app.router.lifespan_context(app):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_a_server_in_a_thread_keeps_its_signal_handlers(settings, handled) -> None:
    """Python sets them in the main thread only."""
    theirs = signal.getsignal(signal.SIGTERM)

    async def run() -> bool:
        app = FastAPI(lifespan=LoopaiLifespan(settings))
        async with app.router.lifespan_context(app):
            return signal.getsignal(signal.SIGTERM) is theirs

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(asyncio.run, run()).result()
