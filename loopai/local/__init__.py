"""The embedded server: `loopai serve` and `LoopaiClient.local()`. Importing this costs next to nothing.

What it needs (extra `server`, Python 3.10 or newer) is imported when a server is made, and named where it is missing.
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
    """The transport to the embedded server of the data folder `path`, `None` for a private folder.

    `language_model` is asked for the programs that cannot be made here; tasks and examples are sent to it. Nothing is
    started before the first request. Raises `ConfigurationError` on Python 3.9 and where a library is missing.
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

    `data`: folder of the database, readable by its owner only; `None` for a private one that goes with the server.
    `api_key`, or the first line of `api_key_file`: the key that every request under /api/ must bear, except health.
    `allowed_hosts`: names the server may be asked under, besides addresses, `localhost` and `host`; `"*"` for any.
    `trusted_proxies`: addresses whose `X-Real-IP` is believed. `cors_origins`: sites whose pages may ask the server.
    `check_inputs=False` runs inputs that do not fit their task's schema. `check_outputs`: whether an output that does
    not is an error (`"reject"`), logged (`"warn"`) or not looked at (`"off"`). `record`: which executions are kept,
    `keep_days` for how long. `rate_limit`: requests a minute for each path and client address. `request_timeout`:
    seconds that a request may take to arrive. `legacy`: answer every caller as the SDKs 0.1.0 expect it; they are
    recognized by their User-Agent without it. `language_model`, or the service at the address `generator`, is asked for
    the programs that cannot be made here; tasks and examples are sent there. `strict=True` keeps a program that scores
    below its task's accuracy target as a draft. `port` 0 takes a free one: `on_bound` is called with the address once
    the server listens.

    Raises `ConfigurationError` on Python 3.9, where a library is missing or a setting cannot be used, and `OSError` for
    an address that is taken.
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
    """Run a server on a free port of this machine, in a thread, for the length of a `with`; `options` as for `serve`.

    `server.base_url` is its address. For demonstrations and tests.
    """
    _need(_LIBRARIES.keys() | {"httptools", "uvicorn"})
    from .serving import running as run

    return run(data=data, api_key=api_key, check_inputs=check_inputs, rate_limit=rate_limit, **options)


def create() -> FastAPI:
    """Return the server as an ASGI application, configured by the environment: `uvicorn --factory loopai.local:create`.

    `LOOPAI_API_KEY` or `LOOPAI_API_KEY_FILE`, the `LOOPAI_LLM_` variables of the clients,
    and `LOOPAI_SERVER_` with the options of `serve` in capitals:
    `LOOPAI_SERVER_DATA` (default `.loopai`), `LOOPAI_SERVER_ALLOWED_HOSTS=a.example,b.example`,
    `LOOPAI_SERVER_CHECK_INPUTS=false`. Raises `ConfigurationError` for what cannot be used.
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
