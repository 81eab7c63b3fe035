"""The embedded server: `loopai serve` and `LoopaiClient.local()`. Importing this costs next to nothing.

What it needs (extra `server`, Python 3.10 or newer) is imported when a server is made, and named where it is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Callable, Optional

from ..exceptions import ConfigurationError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from .serving import Server
    from .transport import LocalTransport

__all__ = ["open_transport", "running", "serve"]

_LIBRARIES = {
    "fastapi": "fastapi",
    "fastapi_offline": "fastapi-offline",
    "jsonschema_rs": "jsonschema-rs",
    "prometheus_client": "prometheus-client",
    "pydantic_monty": "pydantic-monty",
    "sqlalchemy": "sqlalchemy",
}


def open_transport(path: Optional[str] = None) -> LocalTransport:
    """The transport to the embedded server of the data folder `path`, `None` for a private folder.

    Nothing is started before the first request. Raises `ConfigurationError` on Python 3.9 and where a library is
    missing.
    """
    _need(_LIBRARIES)
    from pathlib import Path

    from .transport import LocalTransport

    return LocalTransport(None if path is None else Path(path).expanduser().absolute())


def serve(
    host: str = "127.0.0.1",
    port: int = 8080,
    data: Optional[str] = None,
    api_key: Optional[str] = None,
    *,
    check_inputs: bool = True,
    rate_limit: Optional[int] = None,
    on_bound: Optional[Callable[[str], None]] = None,
) -> None:
    """Serve over HTTP until SIGINT or SIGTERM.

    `data` is the folder of the database, `None` a private one that goes with the server. With `api_key` every request
    under /api/ must bear it, except `health/live`. `check_inputs=False` runs inputs that do not fit their task's
    schema. `rate_limit` is requests a minute for each path and client address. `port` 0 takes a free one: `on_bound`
    is called with the address once the server listens. Raises `ConfigurationError` on Python 3.9, where a library is
    missing or the data folder cannot be used, and `OSError` for an address that is taken.
    """
    _need(_LIBRARIES.keys() | {"uvicorn"})
    from .serving import serve as run

    run(host, port, data, api_key, check_inputs, rate_limit, on_bound)


def running(
    data: Optional[str] = None,
    api_key: Optional[str] = None,
    *,
    check_inputs: bool = True,
    rate_limit: Optional[int] = None,
) -> AbstractContextManager[Server]:
    """A server on a free port of this machine, in a thread, for the length of a `with`; see `serve`.

    `server.base_url` is its address. For demonstrations and tests.
    """
    _need(_LIBRARIES.keys() | {"uvicorn"})
    from .serving import running as run

    return run(data, api_key, check_inputs, rate_limit)


def _need(modules: Iterable[str]) -> None:
    if sys.version_info < (3, 10):
        raise ConfigurationError(
            "the embedded server needs Python 3.10 or newer (its sandbox does): set base_url to a server elsewhere"
        )
    missing = [_LIBRARIES.get(module, module) for module in sorted(modules) if find_spec(module) is None]
    if missing:
        raise ConfigurationError(f"the embedded server needs {', '.join(missing)}: pip install {' '.join(missing)}")
