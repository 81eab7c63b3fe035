"""The embedded server: `loopai serve` and `LoopaiClient.local()`. Importing this is cheap.

Its dependencies (extra `server`, Python 3.10 or newer) are imported when a server is created; errors name missing ones.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Callable, Literal, Optional

from ..exceptions import ConfigurationError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from fastapi import FastAPI

    from ..language_model import LanguageModel
    from .serving import Server
    from .transport import LocalTransport

__all__ = ["create", "open_transport", "running", "serve"]

_LIBRARIES = {
    "fastapi": "fastapi",
    "fastapi_offline": "fastapi-offline",
    "jsonschema_rs": "jsonschema-rs",
    "prometheus_client": "prometheus-client",
    "pydantic_monty": "pydantic-monty",
    "sqlalchemy": "sqlalchemy",
}


def open_transport(path: Optional[str] = None, language_model: Optional[LanguageModel] = None) -> LocalTransport:
    """Return the transport to the embedded server of the data folder `path`, `None` for a private folder.

    `language_model` writes the programs that cannot be made here; tasks and examples are sent to it. Nothing is started
    before the first request. Raises `ConfigurationError` on Python 3.9 and if a library is missing.
    """
    _need(_LIBRARIES)
    from pathlib import Path

    from .transport import LocalTransport

    return LocalTransport(None if path is None else Path(path).expanduser().absolute(), language_model)


def serve(
    host: str = "127.0.0.1",
    port: int = 8080,
    data: Optional[str] = None,
    api_key: Optional[str] = None,
    *,
    api_key_file: Optional[str] = None,
    allowed_hosts: Sequence[str] = (),
    trusted_proxies: Sequence[str] = (),
    cors_origins: Sequence[str] = (),
    check_inputs: bool = True,
    check_outputs: Literal["off", "warn", "reject"] = "warn",
    record: Literal["all", "failures", "none"] = "all",
    keep_days: Optional[float] = None,
    rate_limit: Optional[int] = None,
    request_timeout: float = 30.0,
    legacy: bool = False,
    language_model: Optional[LanguageModel] = None,
    generator: Optional[str] = None,
    strict: bool = False,
    on_bound: Optional[Callable[[str], None]] = None,
) -> None:
    """Serve over HTTP until SIGINT or SIGTERM.

    `data`: folder of the database, readable by its owner only; `None` for a private one that is deleted with the
    server. `api_key`, or the first line of `api_key_file`: the key that requests under /api/ must have, except health.
    `allowed_hosts`: host names that requests may use, besides addresses, `localhost` and `host`; `"*"` for any.
    `trusted_proxies`: addresses whose `X-Real-IP` is trusted. `cors_origins`: sites whose pages may call the server.
    `check_inputs=False` runs inputs that do not fit their task's schema. `check_outputs`: outputs that do not fit are
    errors (`"reject"`), logged (`"warn"`) or not checked (`"off"`). `record`: which executions are kept, `keep_days`
    for how long. `rate_limit`: requests per minute, path and client address. `request_timeout`: time limit in seconds
    for receiving a request. `legacy`: reply to all clients in the form of the SDKs 0.1.0, which are otherwise
    recognized by their User-Agent. `language_model`, or the service at the address `generator`, writes the programs
    that cannot be made here; tasks and examples are sent there. `strict=True` keeps programs that score below their
    task's accuracy target as drafts. `port` 0 takes a free port: `on_bound` is called with the address.

    Raises `ConfigurationError` on Python 3.9, if a library is missing and for invalid settings, and `OSError` if the
    address is in use.
    """
    _need(_LIBRARIES.keys() | {"httptools", "uvicorn"})
    from .serving import serve as run

    run(
        host,
        port,
        on_bound,
        data=data,
        api_key=api_key,
        api_key_file=api_key_file,
        allowed_hosts=allowed_hosts,
        trusted_proxies=trusted_proxies,
        cors_origins=cors_origins,
        check_inputs=check_inputs,
        check_outputs=check_outputs,
        record=record,
        keep_days=keep_days,
        rate_limit=rate_limit,
        request_timeout=request_timeout,
        legacy=legacy,
        language_model=language_model,
        generator=generator,
        strict=strict,
    )


def running(
    data: Optional[str] = None,
    api_key: Optional[str] = None,
    *,
    check_inputs: bool = True,
    rate_limit: Optional[int] = None,
    **options: Any,
) -> AbstractContextManager[Server]:
    """Run a server on a free port of this machine, in a thread, within a `with` block; `options` are those of `serve`.

    `server.base_url` is its address. For demos and tests.
    """
    _need(_LIBRARIES.keys() | {"httptools", "uvicorn"})
    from .serving import running as run

    return run(data=data, api_key=api_key, check_inputs=check_inputs, rate_limit=rate_limit, **options)


def create() -> FastAPI:
    """Return the server as an ASGI application, configured by the environment: `uvicorn --factory loopai.local:create`.

    `LOOPAI_API_KEY` or `LOOPAI_API_KEY_FILE`, the `LOOPAI_LLM_` variables of the clients,
    and the options of `serve` in capitals with the prefix `LOOPAI_SERVER_`:
    `LOOPAI_SERVER_DATA` (default `.loopai`), `LOOPAI_SERVER_ALLOWED_HOSTS=a.example,b.example`,
    `LOOPAI_SERVER_CHECK_INPUTS=false`. Raises `ConfigurationError` for invalid values.
    """
    _need(_LIBRARIES.keys() | {"httptools", "uvicorn"})
    import os

    from .environment import options_from
    from .serving import application

    return application(**options_from(os.environ))


def _need(modules: Iterable[str]) -> None:
    if sys.version_info < (3, 10):
        raise ConfigurationError(
            "the embedded server needs Python 3.10 or newer (its sandbox does): set base_url to a server elsewhere"
        )
    missing = [_LIBRARIES.get(module, module) for module in sorted(modules) if find_spec(module) is None]
    if missing:
        raise ConfigurationError(f"the embedded server needs {', '.join(missing)}: pip install {' '.join(missing)}")
