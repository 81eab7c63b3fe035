"""Loopai: tasks turned into small programs, run on each input in milliseconds.

`LoopaiClient` (async) and `SyncLoopaiClient` reach a Loopai server; `LoopaiClient.local()` brings its own.

Names are imported when they are first used, so that what needs one of them does not pay for all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from ._core.hooks import CallInfo, Hooks
    from .client import BoundTask, LoopaiClient, SyncBoundTask, SyncLoopaiClient
    from .config import NOT_GIVEN, Config
    from .exceptions import (
        AuthenticationException,
        ConfigurationError,
        ConflictException,
        ConnectionException,
        ExecutionException,
        LoopaiException,
        NotFoundException,
        NotSupportedException,
        RateLimitException,
        ReplyTooLargeException,
        ServerException,
        TimeoutException,
        ValidationException,
    )
    from .models import (
        BatchExecuteItem,
        BatchExecuteRequest,
        BatchExecuteResponse,
        BatchExecuteResult,
        ExecutionResult,
        HealthResponse,
        ProgramArtifact,
        Task,
    )

_HOMES = {
    "AuthenticationException": ".exceptions",
    "BatchExecuteItem": ".models",
    "BatchExecuteRequest": ".models",
    "BatchExecuteResponse": ".models",
    "BatchExecuteResult": ".models",
    "BoundTask": ".client",
    "CallInfo": "._core.hooks",
    "Config": ".config",
    "ConfigurationError": ".exceptions",
    "ConflictException": ".exceptions",
    "ConnectionException": ".exceptions",
    "ExecutionException": ".exceptions",
    "ExecutionResult": ".models",
    "HealthResponse": ".models",
    "Hooks": "._core.hooks",
    "LoopaiClient": ".client",
    "LoopaiException": ".exceptions",
    "NOT_GIVEN": ".config",
    "NotFoundException": ".exceptions",
    "NotSupportedException": ".exceptions",
    "ProgramArtifact": ".models",
    "RateLimitException": ".exceptions",
    "ReplyTooLargeException": ".exceptions",
    "ServerException": ".exceptions",
    "SyncBoundTask": ".client",
    "SyncLoopaiClient": ".client",
    "Task": ".models",
    "TimeoutException": ".exceptions",
    "ValidationException": ".exceptions",
}

__all__ = [
    "NOT_GIVEN",
    "AuthenticationException",
    "BatchExecuteItem",
    "BatchExecuteRequest",
    "BatchExecuteResponse",
    "BatchExecuteResult",
    "BoundTask",
    "CallInfo",
    "Config",
    "ConfigurationError",
    "ConflictException",
    "ConnectionException",
    "ExecutionException",
    "ExecutionResult",
    "HealthResponse",
    "Hooks",
    "LoopaiClient",
    "LoopaiException",
    "NotFoundException",
    "NotSupportedException",
    "ProgramArtifact",
    "RateLimitException",
    "ReplyTooLargeException",
    "ServerException",
    "SyncBoundTask",
    "SyncLoopaiClient",
    "Task",
    "TimeoutException",
    "ValidationException",
    "__version__",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home, __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
