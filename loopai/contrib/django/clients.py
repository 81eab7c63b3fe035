"""`get_client` and `get_async_client`: functions without I/O that return one client per alias and process."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, Optional, TypeVar
from urllib.parse import urljoin

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from ...client import LoopaiClient, SyncLoopaiClient
from ...config import Config
from ...exceptions import ConfigurationError
from ...local import open_transport
from .conf import DEFAULT_ALIAS, config_of

C = TypeVar("C", LoopaiClient, SyncLoopaiClient)

_OPTIONS = {item.name for item in fields(Config)} - {"sources", "transport", "local"}


class _Made:
    """The clients made from one version of the settings."""

    def __init__(self) -> None:
        self.clients: dict[tuple[type[Any], str], Any] = {}
        self.servers: dict[str, Any] = {}

    def close(self) -> None:
        for client in self.clients.values():
            if isinstance(client, SyncLoopaiClient):
                client.close()
        for server in self.servers.values():
            server.close()


class _ClientRegistry:
    """The clients of this process, and their replacements in tests.

    Clients survive a fork: their connections belong to a process and event loop, and parent and children share the data
    of a private embedded server.
    """

    def __init__(self) -> None:
        self._made = _Made()
        self._stand_ins: dict[Optional[str], Any] = {}
        self._changes = 0
        self.unlock()

    def unlock(self) -> None:
        """Create a new lock: a forked child may have inherited one that a thread of the parent held."""
        self._lock = threading.RLock()

    def get(self, kind: type[C], alias: str) -> C:
        kept: Any = self._made.clients.get((kind, alias))
        if kept is None or kept._closed:
            with self._lock:
                kept = self._made.clients.get((kind, alias))
                # A client that one user closed (`with get_client() as client`) is replaced for the others.
                if kept is None or kept._closed:
                    kept = self._made.clients[kind, alias] = self._make(kind, alias)
        client: C = kept
        return client

    def _make(self, kind: type[C], alias: str) -> C:
        config = config_of(alias)
        # Pass all options, defaults too: options unset here must not come from another alias's environment variables.
        options: dict[str, Any] = {name: getattr(config, name) for name in _OPTIONS}
        stand_in = self._stand_ins.get(alias, self._stand_ins.get(None))
        try:
            if stand_in is not None:
                # Paths start at the server's root, not below a proxy's prefix: a fake knows no others.
                options["base_url"] = urljoin(config.base_url, "/")
                options.update(transport=stand_in, retry_waits=False)
            elif config.local:
                options["transport"] = self._server(alias, config)
            else:
                options["transport"] = config.transport
            return kind(**options)
        except ConfigurationError as error:
            raise ImproperlyConfigured(f"LOOPAI[{alias!r}]: {error}") from None

    def _server(self, alias: str, config: Config) -> Any:
        """Return the embedded server of an alias, which both of its clients share, so that they see the same tasks."""
        servers = self._made.servers
        if alias not in servers:
            servers[alias] = open_transport(None if config.local is True else str(config.local), config.language_model)
        return servers[alias]

    @contextmanager
    def standing_in(self, alias: Optional[str], transport: Any) -> Iterator[None]:
        with self._lock:
            changes, aside, stand_ins = self._changes, self._made, self._stand_ins
            self._made, self._stand_ins = _Made(), {**stand_ins, alias: transport}
        try:
            yield
        finally:
            with self._lock:
                inside, self._made, self._stand_ins = self._made, aside, stand_ins
                changed = self._changes != changes
            inside.close()
            if changed:
                self.close()

    def close(self) -> None:
        with self._lock:
            self._changes += 1
            made, self._made = self._made, _Made()
        made.close()


_registry = _ClientRegistry()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_registry.unlock)


def get_client(alias: str = DEFAULT_ALIAS) -> SyncLoopaiClient:
    """Return the synchronous client of an alias, for views, commands and tasks. All threads of the process share it.

    Does no I/O, so you can call it at import and before a fork. Raises `ImproperlyConfigured`, which names alias and
    key.
    """
    return _registry.get(SyncLoopaiClient, alias)


def get_async_client(alias: str = DEFAULT_ALIAS) -> LoopaiClient:
    """Return the asynchronous client of an alias, for async views. It works in any event loop, even one per request.

    Does no I/O. Raises `ImproperlyConfigured`, which names alias and key.
    """
    return _registry.get(LoopaiClient, alias)


def close_clients() -> None:
    """Close the process's clients. The next `get_client` makes a new one. This also happens at exit.

    Connections of an asynchronous client belong to event loops, and are closed when these end.
    """
    _registry.close()


def standing_in(alias: Optional[str], transport: Any) -> Any:
    """Return a context in which `transport` answers for `alias` (`None`: every alias) in all threads; for tests."""
    return _registry.standing_in(alias, transport)


def _reset_on_change(*, setting: str, **_: Any) -> None:
    if setting == "LOOPAI":
        _registry.close()


atexit.register(close_clients)
setting_changed.connect(_reset_on_change, dispatch_uid="loopai.reset_on_change")
