"""`LoopaiLifespan`: one client a process and loop for each alias, made at start-up and closed after its last call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from threading import Lock
from types import MappingProxyType
from typing import Any, Callable, Optional, Union

from ..._core.hooks import CallInfo, Hooks
from ...batch.engine.stopping import Stop
from ...client import LoopaiClient, SyncLoopaiClient
from ...exceptions import ConfigurationError
from .settings import CLOSE_GRACE, LoopaiSettings

STATE_KEY = "loopai"
"""The key of our part in the lifespan's state, which mounted applications inherit."""

Lifespan = Callable[[Any], AbstractAsyncContextManager[Optional[Mapping[str, Any]]]]
Source = Union[LoopaiSettings, LoopaiClient, None]


class _InFlight(Hooks):
    """Counts an alias's calls and batches under way, on the loop and in threads, so that closing can wait for them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._calls = 0
        self._none = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._closing = False

    def call_started(self, call: CallInfo) -> None:
        with self._lock:
            self._calls += 1

    def batch_started(self, batch: CallInfo) -> Hooks:
        # Between two of its calls there may be none.
        self.call_started(batch)
        return self

    def batch_ended(self, batch: CallInfo, error: Optional[BaseException]) -> None:
        self.call_ended(batch, error)

    def call_ended(self, call: CallInfo, error: Optional[BaseException]) -> None:
        with self._lock:
            self._calls -= 1
            if self._closing and not self._calls:
                self._loop.call_soon_threadsafe(self._none.set)

    async def over(self, grace: float) -> None:
        """Wait until no call is under way, `grace` seconds at most."""
        with self._lock:
            self._closing = True
            if not self._calls:
                return
        try:
            await asyncio.wait_for(self._none.wait(), grace)
        except asyncio.TimeoutError:
            self._closing = False  # a thread that ends later finds no loop to tell


class LoopaiState:
    """The clients of one running application, by alias. Made by the lifespan; read it through the dependencies."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._settings: dict[str, LoopaiSettings] = {}
        self._clients: dict[str, LoopaiClient] = {}
        self._sync: dict[str, SyncLoopaiClient] = {}
        self._in_flight: dict[str, _InFlight] = {}
        self._batches: set[Stop] = set()
        self._stopping = False
        for alias, source in sources.items():
            if isinstance(source, LoopaiClient):
                self._clients[alias] = source
                continue
            settings = self._settings[alias] = source if source is not None else LoopaiSettings()
            in_flight = self._in_flight[alias] = _InFlight()
            self._clients[alias] = LoopaiClient(**settings.arguments(), hooks=[in_flight])

    def client(self, alias: str = "default") -> LoopaiClient:
        """The asynchronous client of that alias. Raises `ConfigurationError` naming those there are."""
        try:
            return self._clients[alias]
        except KeyError:
            raise ConfigurationError(
                f"no Loopai alias {alias!r}: the lifespan has {', '.join(sorted(self._clients))}; "
                f"add it as LoopaiLifespan(aliases={{{alias!r}: LoopaiSettings(...)}})"
            ) from None

    def sync_client(self, alias: str = "default") -> SyncLoopaiClient:
        """The synchronous client of that alias, for routes that run in threads; made when first asked for."""
        if alias not in self._sync:
            brought = self.client(alias)
            settings = self._settings.get(alias)
            if settings is None:
                raise ConfigurationError(
                    f"alias {alias!r} is a client of yours ({brought!r}): a synchronous one needs LoopaiSettings"
                )
            # Routes ask on the event loop, one after the other: no two are made.
            self._sync[alias] = SyncLoopaiClient(**settings.arguments(), hooks=[self._in_flight[alias]])
        return self._sync[alias]

    def settings(self, alias: str = "default") -> Optional[LoopaiSettings]:
        """What that alias was configured with; `None` for a client of the user's."""
        self.client(alias)
        return self._settings.get(alias)

    def add_batch(self, stop: Stop) -> None:
        """Have this batch stopped when the application shuts down."""
        stop.grace = self._grace
        if self._stopping:
            stop()
        self._batches.add(stop)

    def remove_batch(self, stop: Stop) -> None:
        """The batch is over."""
        self._batches.discard(stop)

    def stop_batches(self) -> None:
        """End the batches under way: rows in flight have half of `close_grace`, so that summaries are sent in it."""
        self._stopping = True
        for stop in list(self._batches):
            stop()

    @property
    def _grace(self) -> float:
        return min((settings.close_grace for settings in self._settings.values()), default=CLOSE_GRACE) / 2

    async def check(self) -> None:
        """Ask each server that is to be checked at start-up whether it lives; raises what the call raises."""
        for alias, settings in self._settings.items():
            if settings.check_on_startup:
                await self._clients[alias].get_live()

    async def close(self) -> None:
        """Close the clients made here, each after its calls in flight or its grace, whichever ends first."""
        self.stop_batches()
        await asyncio.gather(*(self._close(alias) for alias in self._in_flight))

    async def _close(self, alias: str) -> None:
        await self._in_flight[alias].over(self._settings[alias].close_grace)
        await self._clients[alias].close()
        if alias in self._sync:
            await asyncio.to_thread(self._sync[alias].close)


@dataclass(frozen=True, eq=False, init=False)
class LoopaiLifespan:
    """What to give to `FastAPI(lifespan=…)`: `LoopaiLifespan()`, or with settings, aliases and your own lifespan.

    `settings` configures the default alias (`None` reads environment and `.env` at start-up); `aliases` adds others,
    as settings or as clients of yours, which stay yours to close. `inner` is your own lifespan: it runs inside, and may
    yield state of its own. One that needs a client at start-up enters this one instead:
    `async with loopai_lifespan(app) as state:`, uses `state["loopai"].client()` and yields the state.

    Frozen: whatever runs belongs to the application it runs in, so one object may serve many.
    """

    settings: Source
    aliases: Mapping[str, Source]
    inner: Optional[Lifespan]

    # Written out, as dataclasses have arguments by name only from Python 3.10 on.
    def __init__(
        self,
        settings: Source = None,
        *,
        aliases: Mapping[str, Source] = MappingProxyType({}),
        inner: Optional[Lifespan] = None,
    ) -> None:
        if "default" in aliases:
            raise ConfigurationError("aliases: 'default' is what `settings` configures: LoopaiLifespan(settings)")
        for name, source in {"settings": settings, **aliases}.items():
            if source is not None and not isinstance(source, (LoopaiSettings, LoopaiClient)):
                raise ConfigurationError(
                    f"LoopaiLifespan: {name} must be LoopaiSettings or a LoopaiClient, not {type(source).__name__}"
                )
        object.__setattr__(self, "settings", settings)
        object.__setattr__(self, "aliases", MappingProxyType(dict(aliases)))
        object.__setattr__(self, "inner", inner)

    def __call__(self, app: Any) -> AbstractAsyncContextManager[Mapping[str, Any]]:
        """Run for `app`: what Starlette calls at start-up."""
        return self._run(app)

    @asynccontextmanager
    async def _run(self, app: Any) -> AsyncIterator[Mapping[str, Any]]:
        state = LoopaiState({"default": self.settings, **self.aliases})
        try:
            await state.check()
            if self.inner is None:
                yield {STATE_KEY: state}
            else:
                async with self.inner(app) as theirs:
                    yield {**(theirs or {}), STATE_KEY: state}
        finally:
            await state.close()


loopai_lifespan = LoopaiLifespan()
"""The lifespan configured by environment and `.env` alone."""
