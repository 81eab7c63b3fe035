"""Loopai: tasks turned into small programs, run on each input in milliseconds.

`LoopaiClient` (async) and `SyncLoopaiClient` reach a Loopai server; `LoopaiClient.local()` brings its own.
"""

from ._core.hooks import CallInfo, Hooks
from ._version import __version__
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
    "ServerException",
    "SyncBoundTask",
    "SyncLoopaiClient",
    "Task",
    "TimeoutException",
    "ValidationException",
    "__version__",
]
