"""FastAPI: one lifespan, one annotation.

app = FastAPI(lifespan=loopai_lifespan)

@app.post("/check")
async def check(email: Email, ai: LoopaiDep) -> Verdict: ...
"""

try:
    import fastapi as _fastapi
    import pydantic_settings as _settings
except ImportError as _error:
    from ...exceptions import ConfigurationError as _ConfigurationError

    raise _ConfigurationError(
        f"loopai.contrib.fastapi needs {_error.name}: pip install fastapi pydantic-settings"
    ) from None

from ...problems import Problem
from .batches import batch_response, batch_router
from .dependencies import (
    LoopaiDep,
    SyncLoopaiDep,
    get_loopai,
    get_loopai_for,
    get_sync_loopai,
    get_sync_loopai_for,
)
from .disconnects import CancelOnDisconnectRoute, cancel_on_disconnect
from .event_stores import DatabaseEventStore, EventStore, MemoryEventStore, RedisEventStore
from .health import health_router
from .lifespan import LoopaiLifespan, LoopaiState, install_loopai, loopai_lifespan
from .problems import install_error_handlers
from .runs import FolderFull, RunFolder, RunPage, RunStatus, runs_router, start_run, start_run_sync
from .settings import LoopaiSettings
from .webhooks import WebhookEventDep, webhook_event, webhook_router

del _fastapi, _settings

__all__ = [
    "CancelOnDisconnectRoute",
    "DatabaseEventStore",
    "EventStore",
    "FolderFull",
    "LoopaiDep",
    "LoopaiLifespan",
    "LoopaiSettings",
    "LoopaiState",
    "MemoryEventStore",
    "Problem",
    "RedisEventStore",
    "RunFolder",
    "RunPage",
    "RunStatus",
    "SyncLoopaiDep",
    "WebhookEventDep",
    "batch_response",
    "batch_router",
    "cancel_on_disconnect",
    "get_loopai",
    "get_loopai_for",
    "get_sync_loopai",
    "get_sync_loopai_for",
    "health_router",
    "install_error_handlers",
    "install_loopai",
    "loopai_lifespan",
    "runs_router",
    "start_run",
    "start_run_sync",
    "webhook_event",
    "webhook_router",
]
