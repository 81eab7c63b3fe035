"""Event stores that several processes share: each webhook event is handled once by all of them."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from loopai import ConfigurationError
from loopai.contrib.fastapi import DatabaseEventStore, LoopaiLifespan, RedisEventStore, webhook_router
from loopai.testing import FakeLoopai, signed_webhook

sqlalchemy = pytest.importorskip("sqlalchemy")

PATH = "/webhooks/loopai"
PORTS = {"postgresql": 5432, "mariadb": 3306, "redis": 6379}
SLOW = pytest.mark.slow


class Clock:
    """Seconds that pass when a test says so."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def reachable(kind: str) -> None:
    """Skip where there is no such server, except with CI=true."""
    try:
        socket.create_connection(("127.0.0.1", PORTS[kind]), timeout=5).close()
    except OSError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no {kind} on this machine: {error}")


@pytest.fixture(params=["sqlite", *(pytest.param(kind, marks=SLOW) for kind in ("postgresql", "mariadb"))])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of the test's own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'events.sqlite3'}"
        return
    reachable(request.param)
    server = {
        "postgresql": "postgresql+psycopg://postgres@127.0.0.1/postgres",
        "mariadb": "mysql+pymysql://root@127.0.0.1/",
    }[request.param]
    name = f"loopai_{uuid4().hex[:12]}"
    engine = sqlalchemy.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield server.removesuffix("postgres") + name
    finally:
        with engine.connect() as connection:
            force = " WITH (FORCE)" if request.param == "postgresql" else ""
            connection.exec_driver_sql(f"DROP DATABASE {name}{force}")
        engine.dispose()


@pytest.fixture
def redis_prefix() -> Iterator[str]:
    """A prefix of the test's own; its keys are gone afterwards."""
    redis = pytest.importorskip("redis")
    reachable("redis")
    prefix = f"loopai:test:{uuid4().hex}:"
    yield prefix
    with redis.Redis.from_url(REDIS) as server:
        for key in server.scan_iter(f"{prefix}*"):
            server.delete(key)


REDIS = "redis://127.0.0.1:6379/0"


async def check_claims(first: Any, second: Any) -> None:
    """What any store does, whichever of its processes does it."""
    handled, released = uuid4(), uuid4()
    assert [await each.claim(handled) for each in (first, second, first)] == ["ours", "handling", "handling"]
    await first.finish(handled)
    assert [await each.claim(handled) for each in (first, second)] == ["handled", "handled"]
    assert await second.claim(released) == "ours"
    await first.release(released)  # not its own
    assert await first.claim(released) == "handling"
    await second.release(released)
    assert await first.claim(released) == "ours"


async def test_claims_in_a_database(database) -> None:
    """An event is one process's at a time, until it is handled or given back."""
    first, second = DatabaseEventStore(database), DatabaseEventStore(database)
    await check_claims(first, second)
    await first.aclose()
    await second.aclose()


@SLOW
async def test_claims_through_an_asynchronous_engine() -> None:
    """Of SQLAlchemy, as an application has it."""
    asynchronous = pytest.importorskip("sqlalchemy.ext.asyncio")
    pytest.importorskip("psycopg")
    reachable("postgresql")
    engine = asynchronous.create_async_engine("postgresql+psycopg://postgres@127.0.0.1/postgres")
    table = f"loopai_{uuid4().hex[:12]}"
    try:
        await check_claims(DatabaseEventStore(engine, table=table), DatabaseEventStore(engine, table=table))
    finally:
        async with engine.begin() as connection:
            await connection.exec_driver_sql(f"DROP TABLE {table}")
        await engine.dispose()


@SLOW
async def test_claims_in_redis(redis_prefix) -> None:
    """By address, or with a client of the application's."""
    from redis.asyncio import Redis

    mine = Redis.from_url(REDIS, decode_responses=True)
    first, second = RedisEventStore(REDIS, prefix=redis_prefix), RedisEventStore(mine, prefix=redis_prefix)
    await check_claims(first, second)
    await first.aclose()
    await mine.aclose()


async def test_a_claim_lapses_and_handled_events_are_removed(tmp_path) -> None:
    """A process that died holds nothing, and the table does not grow."""
    clock = Clock()
    address = f"sqlite:///{tmp_path / 'events.sqlite3'}"
    first, second = (DatabaseEventStore(address, lapse=60, keep=1000, clock=clock) for _ in range(2))
    died, handled = uuid4(), uuid4()
    assert [await first.claim(died), await first.claim(handled)] == ["ours", "ours"]
    await first.finish(handled)
    clock.now += 59
    assert await second.claim(died) == "handling"
    clock.now += 2
    assert await second.claim(died) == "ours"
    await first.finish(died)  # late: it is another's by now
    assert await first.claim(died) == "handling"
    await second.finish(died)
    assert await first.claim(handled) == "handled"
    clock.now += 1001
    for _ in range(3):
        assert await first.claim(uuid4()) == "ours"
    engine = sqlalchemy.create_engine(address)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM loopai_webhook_events").scalar_one() == 3
    for each in (first, second):
        await each.aclose()
    engine.dispose()


@SLOW
async def test_keys_in_redis_expire(redis_prefix) -> None:
    """Claims and handled events alike, so that nothing is left for ever."""
    from redis.asyncio import Redis

    async with Redis.from_url(REDIS) as server:
        store = RedisEventStore(server, prefix=redis_prefix, lapse=100, keep=1000)
        event = uuid4()
        await store.claim(event)
        assert 90 < await server.ttl(f"{redis_prefix}{event}") <= 100
        await store.finish(event)
        assert 990 < await server.ttl(f"{redis_prefix}{event}") <= 1000


CLAIMING = """
import asyncio, json, sys
from uuid import UUID
from loopai.contrib.fastapi import DatabaseEventStore, RedisEventStore

async def main():
    kind, address, prefix = sys.argv[1:]
    store = DatabaseEventStore(address) if kind == "database" else RedisEventStore(address, prefix=prefix)
    sys.stdin.readline()
    ours = []
    for number in range(100):
        event = UUID(int=number)
        if await store.claim(event) == "ours":
            ours.append(number)
            await store.finish(event)
    await store.aclose()
    print(json.dumps(ours))

asyncio.run(main())
"""


def claimed_by_processes(*arguments: str) -> list[int]:
    """The events that four processes took, which claim the same ones at the same time."""
    command = [sys.executable, "-c", CLAIMING, *arguments]
    processes = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return sorted(number for process in processes for number in json.loads(process.communicate(timeout=60)[0]))


@SLOW
def test_processes_that_share_a_database_handle_each_event_once(database) -> None:
    """The table is made by whichever comes first."""
    assert claimed_by_processes("database", database, "") == list(range(100))


@SLOW
def test_processes_that_share_redis_handle_each_event_once(redis_prefix) -> None:
    """As in a database."""
    assert claimed_by_processes("redis", REDIS, redis_prefix) == list(range(100))


def test_applications_that_share_a_store_handle_a_delivery_once(tmp_path) -> None:
    """And where handling fails, the next delivery is handled, by whichever gets it."""
    handled: list[UUID] = []

    async def on_event(event: Any) -> None:
        if len(handled) == 0 and event.message == "bad at first":
            handled.append(event.id)
            raise LookupError
        handled.append(event.id)

    address = f"sqlite:///{tmp_path / 'events.sqlite3'}"
    stores = [DatabaseEventStore(address) for _ in range(2)]
    clients = []
    for store in stores:
        app = FastAPI()
        app.include_router(webhook_router("secret", on_event, store=store))
        clients.append(TestClient(app, raise_server_exceptions=False))
    delivery = signed_webhook(secret="secret", message="bad at first").as_httpx()
    assert [client.post(PATH, **delivery).status_code for client in (*clients, *clients)] == [500, 204, 204, 204]
    assert len(handled) == 2
    for store in stores:
        asyncio.run(store.aclose())


class Closes:
    """A store of an application's own that has connections to close."""

    def __init__(self, error: Exception | None = None) -> None:
        self.closed = 0
        self._error = error

    async def claim(self, event_id: UUID) -> str:
        return "ours"

    async def finish(self, event_id: UUID) -> None: ...

    async def release(self, event_id: UUID) -> None: ...

    async def aclose(self) -> None:
        self.closed += 1
        if self._error is not None:
            raise self._error


def test_the_lifespan_closes_stores_at_shutdown(tmp_path, caplog) -> None:
    """Each once, whatever another one does; a store without connections has nothing to close, and all work again."""
    shared, broken = Closes(), Closes(OSError("gone"))
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'mine.sqlite3'}")
    ours, theirs = DatabaseEventStore(f"sqlite:///{tmp_path / 'ours.sqlite3'}"), DatabaseEventStore(engine)
    app = FastAPI(lifespan=LoopaiLifespan(FakeLoopai()))
    for number, store in enumerate((broken, shared, shared, ours, theirs, None)):
        app.include_router(webhook_router("secret", lambda event: None, path=f"/{number}", store=store))
    for run in (1, 2):
        with TestClient(app) as client:
            for number in range(6):
                delivery = signed_webhook(secret="secret").as_httpx()
                assert client.post(f"/{number}", **delivery).status_code == 204
            assert (ours._engine.pool.checkedin(), engine.pool.checkedin()) == (1, 1)
        assert (shared.closed, broken.closed) == (run, run)
        assert (ours._engine.pool.checkedin(), engine.pool.checkedin()) == (0, 1)
    engine.dispose()
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info] == [("gone",), ("gone",)]


def test_wrong_options_are_refused_where_they_are_written() -> None:
    """Seconds that cannot be."""
    for make in (DatabaseEventStore, RedisEventStore):
        with pytest.raises(ConfigurationError, match="lapse"):
            make("sqlite://", lapse=0)
        with pytest.raises(ConfigurationError, match="keep above lapse"):
            make("sqlite://", lapse=10, keep=5)


@pytest.mark.parametrize(("library", "make"), [("sqlalchemy", "DatabaseEventStore"), ("redis", "RedisEventStore")])
def test_a_library_that_is_missing_is_one_sentence(library: str, make: str) -> None:
    """With what to install; the integration itself needs neither."""
    code = (
        "import sys, importlib.abc\n"
        "class Missing(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {library!r}: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "import loopai.contrib.fastapi as web\n"
        f"try: web.{make}('x://')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert found.startswith("ConfigurationError")
    assert f"pip install {library}" in found
