"""`loopai doctor`: the configuration and its sources, whether the server answers, and installed libraries."""

from __future__ import annotations

import contextlib
import difflib
import os
import platform
import re
from collections.abc import Mapping
from typing import Any, Final, Optional
from urllib.parse import urlsplit
from uuid import uuid4

from . import output
from .failures import FAILED, OK, UNREACHABLE, USAGE
from .session import Session, shared

CONNECT_SECONDS = 10.0
"""Seconds to wait for the server; shorter than a client's default, so that the command answers soon."""

_DEVELOPMENT: Final = frozenset({"all", "dev", "test"})
_REQUIREMENT = re.compile(r"""([\w.-]+)[^;]*(?:;.*?\bextra\s*==\s*['"]([\w-]+)['"])?""")


@shared
def doctor(session: Session) -> int:
    """Show the configuration and its sources, whether the server answers, and what is installed.

    Exit code 0 if everything works, 1 if the server refuses, 2 if an option is invalid, 4 if no server answers.
    """
    options = _options(session)
    wrong = [f"{row['error']}" for row in options.values() if "error" in row]
    server, code = ({}, USAGE) if wrong else _server(session)
    problems = [*wrong, *([server["error"]] if "error" in server else []), *_misspelt(os.environ)]
    versions = _versions()
    dotenv = _dotenv()
    if session.as_json:
        told = {"options": options, "dotenv": dotenv, "server": server, "versions": versions, "problems": problems}
        output.show_json(told)
    else:
        _show(options, dotenv, server, versions)
    for problem in problems:
        output.complain(problem, code, as_json=session.as_json)
    return code


def _options(session: Session) -> dict[str, dict[str, Any]]:
    """Return each option's value and source. An invalid one has `error`; the others are still shown."""
    from ..config import OPTIONS, resolve
    from ..exceptions import ConfigurationError

    rows: dict[str, dict[str, Any]] = {}
    for option in OPTIONS:
        name, variable = option.argument, option.environment
        arguments = {name: session.arguments[name]} if name in session.arguments else {}
        environ = {variable: os.environ[variable]} if variable in os.environ else {}
        row: dict[str, Any] = {"environment": variable}
        try:
            config = resolve(arguments, environ)
            row.update(value=_told(name, getattr(config, name), option.secret), source=config.sources[name])
        except ConfigurationError as error:
            row.update(value=None, source=variable if not arguments else "argument", error=str(error))
        rows[name] = row
    return rows


def _told(name: str, value: Any, secret: bool) -> Any:
    """Return an option's value as plain data, without secrets."""
    if secret:
        if isinstance(value, Mapping):  # of headers, show only the names
            return sorted(value)
        return f"{len(value)} set" if isinstance(value, tuple) and value else "set" if value else None
    if isinstance(value, Mapping):
        return dict(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _server(session: Session) -> tuple[dict[str, Any], int]:
    from ..exceptions import (
        AuthenticationException,
        ConfigurationError,
        ConnectionException,
        LoopaiException,
        NotFoundException,
    )
    from ..transports.proxies import proxy_for
    from .failures import Failed

    told: dict[str, Any] = {"address": None, "reachable": False}
    try:
        with session.client(max_retries=0, deadline=CONNECT_SECONDS) as client, output.waiting("Asking the server"):
            embedded = bool(client.config.local)
            told["address"] = "embedded" if embedded else client.base_url
            proxy = None if embedded else proxy_for(client.config)
            told["proxy"] = None if proxy is None else _address(proxy.address)
            health = client.get_health()
            with contextlib.suppress(NotFoundException):
                # Health needs no key; reading a task does, even one that does not exist.
                client.get_task(uuid4())
    except (ConfigurationError, ConnectionException, Failed) as error:
        told["error"] = str(error)
        return told, USAGE if isinstance(error, ConfigurationError) else UNREACHABLE
    except LoopaiException as error:
        refused = isinstance(error, AuthenticationException)
        told.update(reachable=True, error=f"the server refuses the API key: {error}" if refused else str(error))
        return told, FAILED
    told.update(reachable=True, status=health.status, version=health.version, environment=health.environment)
    if health.reply is not None:
        told["answered_in_ms"] = round(health.reply.elapsed * 1000, 1)
    well = health.status.lower() == "healthy"
    if not well:
        told["error"] = f"the server reports its status as {health.status}"
    return told, OK if well else FAILED


def _address(url: str) -> str:
    """Return the address without user and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _dotenv() -> dict[str, Any]:
    """Return the options in this folder's `.env`, which FastAPI's `LoopaiSettings` reads and this command does not."""
    from ..config import OPTIONS

    try:
        from dotenv import dotenv_values

        lines = dotenv_values(".env") if os.path.exists(".env") else {}
    except ImportError:  # installed with pydantic-settings, which reads the file
        lines = {}
    return {
        option.argument: _told(option.argument, lines[option.environment], option.secret)
        for option in OPTIONS
        if lines.get(option.environment) is not None
    }


def _misspelt(environ: Mapping[str, str]) -> list[str]:
    """Return environment variables that look like options but are not."""
    from ..config import OPTIONS

    known = [option.environment for option in OPTIONS]
    warnings = []
    for name in sorted(environ):
        if name.startswith("LOOPAI") and name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            if close:
                warnings.append(f"the environment variable {name} is not an option of loopai: did you mean {close[0]}?")
    return warnings


def _versions() -> dict[str, dict[str, Optional[str]]]:
    """Return installed versions: Python, loopai, and its dependencies by extra."""
    from importlib import metadata

    from .._version import __version__

    libraries: dict[str, dict[str, Optional[str]]] = {
        "python": {"version": platform.python_version(), "needed_for": None},
        "loopai": {"version": __version__, "needed_for": None},
    }
    try:
        required = metadata.requires("loopai-sdk") or []
    except metadata.PackageNotFoundError:  # run from a folder, not installed
        required = ["httpx", "pydantic", "typer; extra == 'cli'", "rich; extra == 'cli'"]
    for line in required:
        parts = _REQUIREMENT.match(line)
        if parts is None or parts[2] in _DEVELOPMENT or parts[1] == "loopai-sdk":
            continue
        earlier = libraries.get(parts[1])
        if earlier is None:
            libraries[parts[1]] = {"version": _version(parts[1]), "needed_for": parts[2]}
        elif earlier["needed_for"] is not None and parts[2] is not None:
            earlier["needed_for"] += f", {parts[2]}"
    return libraries


def _version(library: str) -> Optional[str]:
    from importlib import metadata

    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _show(
    options: Mapping[str, Mapping[str, Any]],
    dotenv: Mapping[str, Any],
    server: Mapping[str, Any],
    versions: Mapping[str, Mapping[str, Any]],
) -> None:
    from rich.text import Text

    def value(row: Mapping[str, Any]) -> Any:
        if "error" in row:
            return output.state("wrong", False)
        if row["value"] in (None, [], {}, "0 set"):
            return Text("none", style="dim")
        if isinstance(row["value"], dict):
            return ", ".join(f"{name}={text}" for name, text in row["value"].items())
        return ", ".join(row["value"]) if isinstance(row["value"], list) else row["value"]

    def source(row: Mapping[str, Any]) -> Any:
        return Text("default", style="dim") if row["source"] == "default" else Text(row["source"], style="bold")

    rows = ((name, value(row), source(row)) for name, row in options.items())
    output.show(output.listing({"option": {"no_wrap": True}, "value": {}, "from": {}}, rows, "Options"), "")
    if dotenv:
        title = "In .env, which FastAPI's LoopaiSettings reads and this command does not"
        output.show(output.listing({"option": {"no_wrap": True}, "value": {}}, dotenv.items(), title), "")
    if server:
        said = "yes" if server["reachable"] else "no"
        time = f" in {server['answered_in_ms']:g} ms" if "answered_in_ms" in server else ""
        told = [
            ("address", server["address"]),
            ("proxy", server.get("proxy")),
            ("answers", output.state(f"{said}{time}", server["reachable"])),
            *((name, server.get(name)) for name in ("status", "version", "environment")),
        ]
        output.show(output.facts(told, "Server"), "")
    rows = (
        (name, row["version"] or Text("not installed", style="dim"), row["needed_for"] or "")
        for name, row in versions.items()
    )
    output.show(output.listing({"library": {"no_wrap": True}, "version": {}, "for": {}}, rows, "Versions"))
