"""`get_client` and `get_async_client`: plain functions without I/O, one client an alias and process."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable, TypeVar

from django.core.exceptions import ImproperlyConfigured

from ...client import LoopaiClient, SyncLoopaiClient
from ...config import Config
from ...exceptions import ConfigurationError
from .conf import DEFAULT_ALIAS, config_of

C = TypeVar("C", LoopaiClient, SyncLoopaiClient)


class _Registry:
    """Clients made so far, in this process. A child made by fork starts with none of its own."""

    def __init__(self) -> None:
        self._reset()
        self._replaced: dict[str, Any] = {}

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._clients: dict[tuple[type[Any], str], Any] = {}

    def get(self, kind: type[C], alias: str) -> C:
        if self._pid != os.getpid():
            self._reset()
        found: Any = self._clients.get((kind, alias))
        if found is None:
            with self._lock:
                found = self._clients.get((kind, alias))
                if found is None:
                    found = self._clients[kind, alias] = self._make(kind, alias)
        client: C = found
        return client

    def _make(self, kind: type[C], alias: str) -> C:
        config = config_of(alias)
        given = {name: getattr(config, name) for name, source in config.sources.items() if source != "default"}
        transport = self._replaced.get(alias)
        if transport is not None:
            given = {**{k: v for k, v in given.items() if k != "local"}, "transport": transport, "retry_waits": False}
        else:
            # What the alias leaves open is the default here, not the environment's word for another alias.
            given = {**_defaults(config), **given}
        try:
            return kind(**given)
        except ConfigurationError as error:
            raise ImproperlyConfigured(f"LOOPAI[{alias!r}]: {error}") from None

    def replace(self, alias: str, transport: Any) -> Callable[[], None]:
        """Have `transport` answer for `alias`; call what is returned to end it."""
        before = self._replaced.get(alias)
        self._replaced[alias] = transport
        self.close()

        def restore() -> None:
            if before is None:
                self._replaced.pop(alias, None)
            else:
                self._replaced[alias] = before
            self.close()

        return restore

    def close(self) -> None:
        """Close the synchronous clients of this process and forget all; the next call makes new ones.

        The connections of an asynchronous client belong to event loops, and close as each of these ends.
        """
        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            if isinstance(client, SyncLoopaiClient):
                client.close()


def _defaults(config: Config) -> dict[str, Any]:
    return {name: getattr(config, name) for name, source in config.sources.items() if source == "default"}


_registry = _Registry()
atexit.register(_registry.close)


def get_client(alias: str = DEFAULT_ALIAS) -> SyncLoopaiClient:
    """The synchronous client of an alias, for views, commands and tasks; shared by all threads of the process.

    Does no I/O. Raises `ImproperlyConfigured` naming alias and key.
    """
    return _registry.get(SyncLoopaiClient, alias)


def get_async_client(alias: str = DEFAULT_ALIAS) -> LoopaiClient:
    """The asynchronous client of an alias, for async views; right in any event loop, one a request included.

    Does no I/O. Raises `ImproperlyConfigured` naming alias and key.
    """
    return _registry.get(LoopaiClient, alias)


def close_clients(**_: Any) -> None:
    """Close the process's clients; the next `get_client` makes a new one."""
    _registry.close()


def reset_on_change(*, setting: str, **_: Any) -> None:
    """Take a changed `LOOPAI` setting (`override_settings`) into account."""
    if setting == "LOOPAI":
        _registry.close()


@contextmanager
def replaced(alias: str, transport: Any) -> Iterator[None]:
    """Have `transport` answer for `alias` inside the block, in every thread; for tests."""
    restore = _registry.replace(alias, transport)
    try:
        yield
    finally:
        restore()
