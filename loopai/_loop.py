"""The running event loop, or the reason why there is none that this package can use."""

from __future__ import annotations

import asyncio

from .exceptions import ConfigurationError


def running_loop() -> asyncio.AbstractEventLoop:
    """Return asyncio's running loop. Raises `ConfigurationError` where there is none: under trio, for one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError(
            "LoopaiClient needs a running event loop of asyncio; under trio use SyncLoopaiClient in a thread: "
            "await trio.to_thread.run_sync(client.execute, …)"
        ) from None
