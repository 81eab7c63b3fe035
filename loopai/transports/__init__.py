"""The transport seam: bytes out, status, headers and bytes back. Only this package imports HTTP libraries."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable, Protocol, runtime_checkable

from .._core.wire import Answer, NoReply, Reply, Request
from ..config import TRANSPORT_NAMES, Config
from ..exceptions import ConfigurationError

if TYPE_CHECKING:
    import httpx

    AsyncHttpClient = httpx.AsyncClient
    HttpClient = httpx.Client
    """What can be passed as `http_client`."""

__all__ = ["Answer", "AsyncTransport", "NoReply", "Reply", "Request", "Transport", "open_async", "open_sync"]


@runtime_checkable
class Transport(Protocol):
    """Sends requests for `SyncLoopaiClient`, from any thread.

    `send` returns a `Reply` for every response, whatever its status, and a `NoReply` if there is none; it obeys the
    request's `timeout` and `queue_timeout`. It may have `tasks`, a mapping from task names to ids, and
    `has_programs = True` if every task has a program: then a client looks up nothing before a first execution.
    """

    def send(self, request: Request) -> Answer:
        """Send one request and wait for its reply."""

    def close(self) -> None:
        """Close connections; closing twice is not an error."""


@runtime_checkable
class AsyncTransport(Protocol):
    """Sends requests for `LoopaiClient`, from any event loop. See `Transport`."""

    async def asend(self, request: Request) -> Answer:
        """Send one request and wait for its reply."""

    async def aclose(self) -> None:
        """Close connections; closing twice is not an error."""


def _library(name: str) -> ModuleType:
    if importlib.util.find_spec(name) is None:
        raise ConfigurationError(f"transport={name!r} needs {name}: pip install {name}")
    return importlib.import_module(name)


def _httpx(config: Config, asynchronous: bool) -> Any:
    library = _library(config.transport)
    from . import httpx as connections

    return (connections.open_async if asynchronous else connections.open_sync)(config, library)


def _pyreqwest(config: Config, asynchronous: bool) -> Any:
    _library(config.transport)
    from . import pyreqwest as connections

    return (connections.AsyncPyreqwestTransport if asynchronous else connections.PyreqwestTransport)(config)


_OPENERS: dict[str, Callable[[Config, bool], Any]] = {
    "httpx": _httpx,
    "httpx2": _httpx,
    "pyreqwest": _pyreqwest,
}


def _open(config: Config, asynchronous: bool) -> Any:
    method = "asend" if asynchronous else "send"
    if not isinstance(config.transport, str):
        if not callable(getattr(config.transport, method, None)):
            kind = "LoopaiClient" if asynchronous else "SyncLoopaiClient"
            raise ConfigurationError(f"transport: {config.transport!r} has no `{method}`, which {kind} needs")
        return config.transport
    if config.local:
        from ..local import open_transport

        return open_transport(None if config.local is True else str(config.local), config.language_model)
    if config.transport not in TRANSPORT_NAMES:
        raise ConfigurationError(
            f"transport: {config.transport!r} is not one of {', '.join(map(repr, TRANSPORT_NAMES))}, nor an object"
        )
    return _OPENERS[config.transport](config, asynchronous)


def open_sync(config: Config) -> Transport:
    """Return the transport that `config` names, for `SyncLoopaiClient`. Raises `ConfigurationError`."""
    transport: Transport = _open(config, asynchronous=False)
    return transport


def open_async(config: Config) -> AsyncTransport:
    """Return the transport that `config` names, for `LoopaiClient`. Raises `ConfigurationError`."""
    transport: AsyncTransport = _open(config, asynchronous=True)
    return transport
