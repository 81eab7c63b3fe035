"""The running event loop, or an error that says why there is none."""

from __future__ import annotations

import asyncio

from .exceptions import ConfigurationError


def running_loop() -> asyncio.AbstractEventLoop:
    """Return asyncio's running loop. Raises `ConfigurationError` if there is none, as under trio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError(
            "LoopaiClient needs a running event loop of asyncio; under trio use SyncLoopaiClient in a thread: "
            "await trio.to_thread.run_sync(client.execute, …)"
        ) from None
