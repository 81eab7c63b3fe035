"""Stores of handled webhook events: in this process, in a database, or in Redis."""

from __future__ import annotations

import asyncio
import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, Callable, Literal, Protocol, TypeVar, Union
from uuid import UUID, uuid4
from weakref import WeakKeyDictionary

from fastapi.concurrency import run_in_threadpool

from ...exceptions import ConfigurationError

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")
Claim = Literal["ours", "handling", "handled"]

REMEMBERED = 10_000
"""Event ids kept in memory: at a few events per second, longer than any server repeats a delivery."""

LAPSE = 300.0
"""Seconds after which a claim expires that was neither finished nor released, because its process died."""

KEEP = 7 * 86_400.0
"""Seconds that an event is kept. Servers repeat deliveries for minutes, and older events are rejected."""

TABLE = "loopai_webhook_events"

CLEAN_EVERY = 60.0
"""Seconds between two removals of old events."""

_HANDLED = "handled"


class EventStore(Protocol):
    """Records which events were handled. Several processes must share one store (a database, Redis).

    If it has `aclose()`, the application's Loopai lifespan awaits that at shutdown.
    """

    async def claim(self, event_id: UUID) -> Claim:
        """Claim the event: `"ours"`, unless another delivery of it is being handled or was handled.

        A claim that is neither finished nor released belongs to a process that died: let it expire after a while.
        """

    async def finish(self, event_id: UUID) -> None:
        """Record that the event was handled: later deliveries are ignored."""

    async def release(self, event_id: UUID) -> None:
        """Release the claim because handling failed: the next delivery can claim the event."""


class MemoryEventStore:
    """Keeps the latest `size` events of this process in memory."""

    def __init__(self, size: int = REMEMBERED) -> None:
        self._size = size
        self._taken: dict[UUID, Literal["handling", "handled"]] = {}

    async def claim(self, event_id: UUID) -> Claim:
        """Claim the event; see `EventStore`."""
        if event_id in self._taken:
            return self._taken[event_id]
        self._taken[event_id] = "handling"
        if len(self._taken) > self._size:
            del self._taken[next(iter(self._taken))]
        return "ours"

    async def finish(self, event_id: UUID) -> None:
        """Record that it was handled; see `EventStore`."""
        self._taken[event_id] = "handled"

    async def release(self, event_id: UUID) -> None:
        """Release the claim; see `EventStore`."""
        self._taken.pop(event_id, None)


def _check_seconds(lapse: float, keep: float) -> None:
    if not 0 < lapse < keep:
        raise ConfigurationError("lapse and keep are seconds: lapse must be above 0, and keep above lapse")


class DatabaseEventStore:
    """Keeps events in a database table, for all processes that use it.

    `database` is a URL or an engine of SQLAlchemy, synchronous (used in threads) or asynchronous. The table is created
    if it is missing, unless `create_table` is false. A claim expires after `lapse` seconds, which must be longer than
    handling takes; an event is removed `keep` seconds after it was handled. Raises `ConfigurationError` if SQLAlchemy
    is not installed.
    """

    def __init__(
        self,
        database: Union[str, Engine, AsyncEngine],
        *,
        table: str = TABLE,
        create_table: bool = True,
        lapse: float = LAPSE,
        keep: float = KEEP,
        clock: Callable[[], float] = time.time,
    ) -> None:
        try:
            import sqlalchemy
        except ImportError:
            raise ConfigurationError("DatabaseEventStore needs SQLAlchemy: pip install sqlalchemy") from None
        _check_seconds(lapse, keep)
        self._sql = sqlalchemy
        self._owned = isinstance(database, str)
        self._engine: Any = sqlalchemy.create_engine(database) if isinstance(database, str) else database
        self._table = sqlalchemy.Table(
            table,
            sqlalchemy.MetaData(),
            sqlalchemy.Column("event_id", sqlalchemy.String(36), primary_key=True),
            sqlalchemy.Column("handled", sqlalchemy.Boolean, nullable=False),
            sqlalchemy.Column("owner", sqlalchemy.String(36), nullable=False),
            sqlalchemy.Column("changed_at", sqlalchemy.Double, nullable=False, index=True),
        )
        self._owner = str(uuid4())
        self._lapse, self._keep, self._clock = lapse, keep, clock
        self._made = not create_table
        self._clean_at = 0.0
        self._lock = threading.Lock()

    async def claim(self, event_id: UUID) -> Claim:
        """Claim the event; see `EventStore`."""
        await self._prepare()
        now = self._clock()
        while True:
            try:
                await self._run(lambda connection: self._insert(connection, event_id, now))
            except self._sql.exc.IntegrityError:
                found = await self._run(lambda connection: self._taken(connection, event_id, now))
                if found is not None:
                    return found
                # Released or removed at this moment.
            else:
                return "ours"

    async def finish(self, event_id: UUID) -> None:
        """Record that it was handled; see `EventStore`."""
        change = self._mine(self._table.update(), event_id).values(handled=True, changed_at=self._clock())
        await self._run(lambda connection: connection.execute(change))

    async def release(self, event_id: UUID) -> None:
        """Release the claim; see `EventStore`."""
        change = self._mine(self._table.delete(), event_id)
        await self._run(lambda connection: connection.execute(change))

    async def aclose(self) -> None:
        """Close the connections, unless the engine is yours. The store can be used again."""
        if self._owned:
            await run_in_threadpool(self._engine.dispose)

    async def _run(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction."""
        if hasattr(self._engine, "sync_engine"):
            async with self._engine.begin() as connection:
                result: T = await connection.run_sync(work)
                return result

        def in_thread() -> T:
            with self._engine.begin() as connection:
                return work(connection)

        return await run_in_threadpool(in_thread)

    async def _prepare(self) -> None:
        if not self._made:
            try:
                await self._run(self._table.metadata.create_all)
            except self._sql.exc.DBAPIError:
                # Another process may have created it at this moment.
                if not await self._run(lambda connection: self._sql.inspect(connection).has_table(self._table.name)):
                    raise
            self._made = True
        now = self._clock()
        with self._lock:
            clean, self._clean_at = now >= self._clean_at, max(self._clean_at, now + CLEAN_EVERY)
        if clean:
            old = self._table.delete().where(self._table.c.changed_at < now - self._keep)
            await self._run(lambda connection: connection.execute(old))

    def _insert(self, connection: Connection, event_id: UUID, now: float) -> None:
        row = {"event_id": str(event_id), "handled": False, "owner": self._owner, "changed_at": now}
        connection.execute(self._table.insert().values(row))

    def _taken(self, connection: Connection, event_id: UUID, now: float) -> Union[Claim, None]:
        """Return the state of another process's claim; `None` if there is none any more."""
        table = self._table.c
        lapsed = (table.event_id == str(event_id)) & ~table.handled & (table.changed_at < now - self._lapse)
        change = self._table.update().where(lapsed).values(owner=self._owner, changed_at=now)
        if connection.execute(change).rowcount:
            return "ours"
        handled = connection.execute(
            self._sql.select(table.handled).where(table.event_id == str(event_id))
        ).scalar_one_or_none()
        return None if handled is None else "handled" if handled else "handling"

    def _mine(self, change: Any, event_id: UUID) -> Any:
        # An expired claim may belong to another process by now.
        table = self._table.c
        return change.where((table.event_id == str(event_id)) & (table.owner == self._owner) & ~table.handled)


_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


class RedisEventStore:
    """Keeps events in Redis, for all processes that use it.

    `redis` is a URL or a client of `redis.asyncio`. A claim expires after `lapse` seconds, which must be longer than
    handling takes; an event is removed `keep` seconds after it was handled. Raises `ConfigurationError` if the library
    is not installed.
    """

    def __init__(
        self,
        redis: Union[str, Redis],
        *,
        prefix: str = "loopai:webhook:",
        lapse: float = LAPSE,
        keep: float = KEEP,
    ) -> None:
        _check_seconds(lapse, keep)
        self._redis = redis
        self._prefix = prefix
        self._owner = str(uuid4())
        self._lapse, self._keep = round(lapse * 1000), round(keep * 1000)
        # Connections belong to the event loop in which they were opened.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()
        if isinstance(redis, str):
            try:
                import_module("redis")
            except ImportError:
                raise ConfigurationError("RedisEventStore needs redis: pip install redis") from None

    async def claim(self, event_id: UUID) -> Claim:
        """Claim the event; see `EventStore`."""
        client, key = self._client(), self._key(event_id)
        while not await client.set(key, self._owner, nx=True, px=self._lapse):
            found = await client.get(key)
            if found is not None:
                return "handled" if found in {_HANDLED, _HANDLED.encode()} else "handling"
            # Released or expired at this moment.
        return "ours"

    async def finish(self, event_id: UUID) -> None:
        """Record that it was handled; see `EventStore`."""
        await self._client().set(self._key(event_id), _HANDLED, px=self._keep)

    async def release(self, event_id: UUID) -> None:
        """Release the claim; see `EventStore`."""
        # An expired claim may belong to another process by now.
        await self._client().eval(_RELEASE, 1, self._key(event_id), self._owner)

    async def aclose(self) -> None:
        """Close the connections of this event loop, unless the client is yours. The store can be used again."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _key(self, event_id: UUID) -> str:
        return f"{self._prefix}{event_id}"

    def _client(self) -> Any:
        if not isinstance(self._redis, str):
            return self._redis
        from redis.asyncio import Redis

        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = Redis.from_url(self._redis)
        return self._clients[loop]
