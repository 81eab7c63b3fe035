"""`LoopaiLifespan`: one client per process, event loop and alias, made at start-up and closed after its last call."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from threading import Lock
from types import MappingProxyType
from typing import Any, Callable, Optional, Protocol, Union
from uuid import UUID
from weakref import WeakKeyDictionary

from fastapi import routing

from ..._core.hooks import CallInfo, Hooks
from ...batch.engine.stopping import Stop
from ...client import LoopaiClient, SyncLoopaiClient
from ...exceptions import (
    ConfigurationError,
    ConnectionException,
    RateLimitException,
    ServerException,
    TimeoutException,
)
from ...testing import FakeLoopai
from .settings import CLOSE_GRACE, LoopaiSettings
from .shutdown import on_signal

STATE_KEY = "loopai"
"""The key of Loopai's entry in the lifespan's state, which mounted applications inherit."""

Lifespan = Callable[[Any], AbstractAsyncContextManager[Optional[Mapping[str, Any]]]]
Source = Union[LoopaiSettings, LoopaiClient, FakeLoopai, None]

CHECK = "loopai_check"
"""Attribute of a route's function or dependency: a check at start-up, called with the state."""

LOOKED_UP = "loopai_task"
"""Attribute of a route's function: its alias and task, which are checked at start-up."""

STORE = "loopai_store"
"""Attribute of a route's function: a store of events, closed at shutdown."""
SERVICE = "loopai_service"
"""Attribute of a route's function: a background service of the application (`AppService`)."""

LOOK_UP_SECONDS = 5.0
"""Seconds that a start waits for the server to look up a task's name."""

logger = logging.getLogger("loopai.fastapi")


class AppService(Protocol):
    """A background service that runs as long as the application."""

    async def serve(self, state: LoopaiState, app: Any) -> None:
        """Run until the state's batches are stopped (`LoopaiState.add_batch`)."""


class _InFlight(Hooks):
    """Counts an alias's calls and batches in progress, in the loop and in threads, so that closing can wait."""

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
        # Between two calls of a batch, none may be in flight.
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
        """Wait until no call is in flight, `grace` seconds at most."""
        with self._lock:
            self._closing = True
            if not self._calls:
                return
        try:
            await asyncio.wait_for(self._none.wait(), grace)
        except asyncio.TimeoutError:
            self._closing = False  # a thread that ends later finds the loop closed


class LoopaiState:
    """The clients of one running application, by alias. The lifespan makes it; use it through the dependencies."""

    def __init__(
        self, sources: Mapping[str, Source], hooks: Iterable[Hooks] = (), http_client: Optional[Any] = None
    ) -> None:
        self._hooks = tuple(hooks)
        self._brought = http_client is not None
        self._settings: dict[str, LoopaiSettings] = {}
        self._clients: dict[str, LoopaiClient] = {}
        self._sync: dict[str, SyncLoopaiClient] = {}
        self._in_flight: dict[str, _InFlight] = {}
        self._fakes: set[str] = set()
        self._batches: set[Stop] = set()
        self._stopping = False
        self._services: dict[AppService, asyncio.Task[None]] = {}
        for alias, source in sources.items():
            if isinstance(source, LoopaiClient):
                self._clients[alias] = source
                continue
            if isinstance(source, FakeLoopai):
                self._fakes.add(alias)
                self._clients[alias], self._sync[alias] = source.async_client(), source.client()
                continue
            settings = self._settings[alias] = source if source is not None else LoopaiSettings()
            in_flight = self._in_flight[alias] = _InFlight()
            arguments = settings.arguments(alias)
            if http_client is not None and alias == "default":
                # A fake is the transport, so the server in the settings is not used.
                arguments.pop("transport", None)
                arguments.pop("local", None)
                arguments["http_client"] = http_client
                if "base_url" not in settings.model_fields_set:
                    del arguments["base_url"]  # the client may have its own
            self._clients[alias] = LoopaiClient(**arguments, hooks=[in_flight, *self._hooks])

    def client(self, alias: str = "default") -> LoopaiClient:
        """Return the asynchronous client of that alias. Raises `ConfigurationError`, which lists the aliases."""
        try:
            return self._clients[alias]
        except KeyError:
            raise ConfigurationError(
                f"no Loopai alias {alias!r}: the lifespan has {', '.join(sorted(self._clients))}; "
                f"add it as LoopaiLifespan(aliases={{{alias!r}: LoopaiSettings(...)}})"
            ) from None

    def sync_client(self, alias: str = "default") -> SyncLoopaiClient:
        """Return the synchronous client of that alias, for routes that run in threads. Made at the first call."""
        if alias not in self._sync:
            brought = self.client(alias)
            settings = self._settings.get(alias)
            if settings is None:
                raise ConfigurationError(
                    f"alias {alias!r} is a client of yours ({brought!r}): a synchronous one needs LoopaiSettings"
                )
            if self._brought and alias == "default":
                raise ConfigurationError(
                    "LoopaiLifespan(http_client=...) has an asynchronous client of yours; a synchronous Loopai client "
                    "cannot use it: take LoopaiDep, or an alias without it"
                )
            # Called in the event loop, one call after the other: only one is made.
            hooks = [self._in_flight[alias], *self._hooks]
            self._sync[alias] = SyncLoopaiClient(**settings.arguments(alias), hooks=hooks)
        return self._sync[alias]

    def settings(self, alias: str = "default") -> Optional[LoopaiSettings]:
        """Return the settings of that alias; `None` for the user's own client."""
        self.client(alias)
        return self._settings.get(alias)

    def add_batch(self, stop: Stop) -> None:
        """Stop this batch when the application shuts down."""
        stop.grace = self._grace
        if self._stopping:
            stop()
        self._batches.add(stop)

    def remove_batch(self, stop: Stop) -> None:
        """Forget a batch that is over."""
        self._batches.discard(stop)

    def start(self, service: AppService, app: Any) -> None:
        """Start the service, unless it is running."""
        if service not in self._services and not self._stopping:
            self._services[service] = asyncio.get_running_loop().create_task(service.serve(self, app))

    def stop_batches(self) -> None:
        """End the batches in progress. Rows in flight have half of `close_grace`, which leaves time for summaries."""
        self._stopping = True
        for stop in list(self._batches):
            stop()

    @property
    def _grace(self) -> float:
        return min((settings.close_grace for settings in self._settings.values()), default=CLOSE_GRACE) / 2

    async def check(self) -> None:
        """Check that each server with `check_on_startup` answers. Raises what the call raises."""
        for alias, settings in self._settings.items():
            if settings.check_on_startup:
                await self._clients[alias].get_live()

    async def check_task(self, alias: str, task: str) -> None:
        """Check that the server has a task; without `check_on_startup` only if its name must be looked up.

        Raises what the call raises. Without `check_on_startup`, only a warning is logged if the server does not answer.
        """
        client, settings = self.client(alias), self._settings.get(alias)
        if settings is not None and settings.check_on_startup:
            await client.get_task(task)
            return
        if alias in self._fakes or task in client.config.tasks or _is_id(task):
            return
        try:
            await client.with_options(max_retries=0, deadline=LOOK_UP_SECONDS).get_task(task)
        except (ConnectionException, RateLimitException, ServerException, TimeoutException) as error:
            logger.warning("task %r cannot be looked up yet: %s", task, error)

    async def close(self) -> None:
        """Close the clients made here, each after its calls in flight or its grace period, whichever ends first."""
        self.stop_batches()
        services = self._services.values()
        if services:
            _, slow = await asyncio.wait(services, timeout=2 * self._grace)
            for task in slow:
                task.cancel()
            await asyncio.gather(*services, return_exceptions=True)
        await asyncio.gather(*(self._close(alias) for alias in self._in_flight))

    async def _close(self, alias: str) -> None:
        await self._in_flight[alias].over(self._settings[alias].close_grace)
        await self._clients[alias].close()
        if alias in self._sync:
            await asyncio.to_thread(self._sync[alias].close)


@dataclass(frozen=True, eq=False, init=False)
class LoopaiLifespan:
    """The lifespan for `FastAPI(lifespan=…)`: `LoopaiLifespan()`, or with settings, aliases and your own lifespan.

    - `settings`: options of the default alias; `None` reads the environment and `.env` at start-up. A `FakeLoopai`
      instead of settings answers itself.
    - `aliases`: settings of other aliases, or your own clients, which you close yourself.
    - `hooks`: hooks of each client that is made here.
    - `http_client`: your own HTTP client for the default alias.
    - `inner`: your own lifespan. It runs inside and may yield its own state. If it needs a client at start-up, enter
      this lifespan in yours instead: `async with loopai_lifespan(app) as state:`, use `state["loopai"].client()`, and
      yield the state.

    The object is frozen and keeps no state, so several applications may use the same one.
    """

    settings: Source
    aliases: Mapping[str, Source]
    inner: Optional[Lifespan]
    hooks: tuple[Hooks, ...]
    http_client: Optional[Any]

    # Written by hand, because dataclasses have keyword-only arguments only from Python 3.10 on.
    def __init__(
        self,
        settings: Source = None,
        *,
        aliases: Mapping[str, Source] = MappingProxyType({}),
        inner: Optional[Lifespan] = None,
        hooks: Iterable[Hooks] = (),
        http_client: Optional[Any] = None,
    ) -> None:
        if "default" in aliases:
            raise ConfigurationError("aliases: 'default' is what `settings` configures: LoopaiLifespan(settings)")
        given: dict[str, Any] = {"settings": settings, **aliases}
        for name, source in given.items():
            if source is not None and not isinstance(source, (LoopaiSettings, LoopaiClient, FakeLoopai)):
                hint = "; pass a lifespan of your own as inner=" if callable(source) else ""
                raise ConfigurationError(
                    f"LoopaiLifespan: {name} must be LoopaiSettings, a LoopaiClient or a FakeLoopai, "
                    f"not {type(source).__name__}{hint}"
                )
        if http_client is not None and not (settings is None or isinstance(settings, LoopaiSettings)):
            raise ConfigurationError("LoopaiLifespan: http_client is for a client made of settings")
        object.__setattr__(self, "settings", settings)
        object.__setattr__(self, "aliases", MappingProxyType(dict(aliases)))
        object.__setattr__(self, "inner", inner)
        object.__setattr__(self, "hooks", tuple(hooks))
        object.__setattr__(self, "http_client", http_client)

    def __call__(self, app: Any) -> AbstractAsyncContextManager[Mapping[str, Any]]:
        """Run for `app`. Starlette calls this at start-up."""
        return self._run(app)

    @asynccontextmanager
    async def _run(self, app: Any) -> AsyncIterator[Mapping[str, Any]]:
        state = LoopaiState({"default": self.settings, **self.aliases}, self.hooks, self.http_client)
        router = getattr(app, "router", None)
        if self.inner is None and (getattr(router, "on_startup", None) or getattr(router, "on_shutdown", None)):
            warnings.warn(
                "on_event handlers do not run beside a lifespan: use install_loopai(app) instead of lifespan=",
                RuntimeWarning,
                stacklevel=2,
            )
        try:
            _check_routes(app, state)
            await state.check()
            with on_signal(state.stop_batches):
                if self.inner is None:
                    await _check_tasks(app, state)
                    _start_services(app, state)
                    yield {STATE_KEY: state}
                else:
                    async with self.inner(app) as theirs:
                        # Only now, because the inner lifespan may create the tasks.
                        await _check_tasks(app, state)
                        _start_services(app, state)
                        yield {**(theirs or {}), STATE_KEY: state}
        finally:
            await state.close()
            await _close_stores(app)


def install_loopai(
    app: Any,
    settings: Source = None,
    *,
    aliases: Mapping[str, Source] = MappingProxyType({}),
    hooks: Iterable[Hooks] = (),
    http_client: Optional[Any] = None,
) -> None:
    """Add the Loopai lifespan to `app` (FastAPI or Starlette), around its own lifespan or `on_event` handlers.

    Arguments are those of `LoopaiLifespan`. Call it before the application starts; later `on_event` handlers run too.
    Raises `ConfigurationError` if the application already has a Loopai lifespan.
    """
    theirs = app.router.lifespan_context
    if isinstance(theirs, LoopaiLifespan):
        raise ConfigurationError("install_loopai: the application has a Loopai lifespan already")
    app.router.lifespan_context = LoopaiLifespan(
        settings, aliases=aliases, inner=theirs, hooks=hooks, http_client=http_client
    )


def routes_of(app: Any) -> Iterable[Any]:
    """Return the routes of an application and of the routers that it includes."""
    # Older FastAPI copies the routes of an included router; newer versions keep the router and have this to read them.
    effective = getattr(routing, "iter_route_contexts", None)
    found: Iterable[Any] = app.routes if effective is None else effective(app.routes)
    return found


def _check_routes(app: Any, state: LoopaiState) -> None:
    """Check what Loopai's routes need, so that errors are found at start-up and not at the first request."""
    for check in _noted(app, CHECK):
        check(state)


async def _check_tasks(app: Any, state: LoopaiState) -> None:
    """Check the tasks that Loopai's routes run."""
    overridden = overridden_in(app)
    for alias, task in dict.fromkeys(_noted(app, LOOKED_UP)):
        if alias not in overridden:
            await state.check_task(alias, task)


async def _close_stores(app: Any) -> None:
    """Close the event stores that have connections, all of them even if closing one fails."""
    for store in {id(store): store for store in _noted(app, STORE)}.values():
        close = getattr(store, "aclose", None)
        if close is None:
            continue
        try:
            await close()
        except Exception:
            logger.exception("an event store could not be closed")


def _start_services(app: Any, state: LoopaiState) -> None:
    """Start the background services."""
    for service in _noted(app, SERVICE):
        state.start(service, app)


def _noted(app: Any, attribute: str) -> Iterator[Any]:
    """Yield the attribute of the routes' functions and of their dependencies."""
    for route in routes_of(app) if hasattr(app, "routes") else ():
        for call in _calls_of(route):
            noted = getattr(call, attribute, None)
            if noted is not None:
                yield noted


def _calls_of(route: Any) -> Iterator[Any]:
    dependant = getattr(route, "dependant", None)
    if dependant is None:
        yield getattr(route, "endpoint", None)
        return
    waiting = [dependant]
    while waiting:
        found = waiting.pop()
        yield found.call
        waiting.extend(found.dependencies)


def _is_id(task: str) -> bool:
    try:
        UUID(task)
    except ValueError:
        return False
    return True


_fakes: WeakKeyDictionary[Any, dict[str, FakeLoopai]] = WeakKeyDictionary()


def overridden_in(app: Any) -> dict[str, FakeLoopai]:
    """Return the fakes that replace clients of this application, by alias; tests may change it."""
    found: dict[str, FakeLoopai] = _fakes.setdefault(app, {})
    return found


loopai_lifespan = LoopaiLifespan()
"""The lifespan that is configured by the environment and `.env` only."""
