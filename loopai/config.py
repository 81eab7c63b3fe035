"""One frozen, validated configuration, which arguments, environment and framework settings all become."""

from __future__ import annotations

import difflib
import math
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from types import MappingProxyType
from typing import Any, Callable, Final, Literal, Optional, TypeVar, Union, get_args
from urllib.parse import urlsplit
from uuid import UUID

from .exceptions import ConfigurationError

T = TypeVar("T")


class NotGiven(Enum):
    """The type of `NOT_GIVEN`: an argument nobody gave, where `None` means something."""

    NOT_GIVEN = "NOT_GIVEN"

    def __repr__(self) -> str:
        return self.value

    def __bool__(self) -> bool:
        return False


NOT_GIVEN: Final = NotGiven.NOT_GIVEN
Maybe = Union[T, NotGiven]

TransportName = Literal["httpx", "httpx2", "pyreqwest"]
"""The transports that are chosen by name; each is named for the library that it needs."""

TRANSPORT_NAMES: Final[tuple[str, ...]] = get_args(TransportName)

LONGEST_BOUND = 1e9
"""Seconds (31 years); what waits for a lock or a socket takes little more than that."""

EMBEDDED = "http://embedded"
"""The address that stands for the embedded server in this process, where nothing listens."""

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty")
    return value.strip()


def _base_url(value: Any) -> str:
    url = _text(value).rstrip("/")
    if "@" in url:
        raise _Untold("must not carry a user or password, so no @: pass the key as api_key")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or any(not letter.isprintable() for letter in url):
        raise ValueError("must be an http:// or https:// address")
    if " " in url or "?" in url or "#" in url:
        raise ValueError("must end with its path: no query, no fragment, no spaces")
    if parts.port == 0:  # and for one that is no port, the question itself raises
        raise ValueError("must name a port from 1 to 65535")
    return url


class _Untold(ValueError):
    """What is wrong with a value that must not be shown, as it holds a secret."""


def _api_key(value: Any) -> Optional[str]:
    if value is None or value == "":
        return None
    key = _text(value)
    if not key.isascii() or not key.isprintable():
        raise ValueError("must be printable ASCII, as it is sent in a header")
    return key


def _seconds(value: Any) -> Optional[float]:
    if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
        return None
    seconds = math.nan if isinstance(value, bool) else _number(float, value)
    if not 0 < seconds <= LONGEST_BOUND:
        raise ValueError("must be a number of seconds above 0, or None for no bound")
    return seconds


def _retries(value: Any) -> Optional[int]:
    if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
        return None
    retries = -1 if isinstance(value, (bool, float)) else _number(int, value)
    if retries < 0:
        raise ValueError("must be a whole number from 0, or None for no limit")
    return retries


def _count(value: Any) -> int:
    count = 0 if isinstance(value, (bool, float)) else _number(int, value)
    if count < 1:
        raise ValueError("must be a whole number from 1")
    return count


def _number(kind: Callable[[Any], T], value: Any) -> T:
    try:
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("must be a number") from None


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise ValueError("must be true or false")
    return text in _TRUE


def _pairs(value: Any) -> Any:
    """`name=text,name=text`, as an environment variable holds it, as a mapping; anything else as it is."""
    if not isinstance(value, str):
        return value
    pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
    return {name.strip(): text.strip() for name, _, text in pairs}


def _tasks(value: Any) -> Mapping[str, str]:
    value = _pairs(value)
    if not isinstance(value, Mapping):
        raise ValueError("must map names to task ids, or read name=id,name=id")
    for name, task_id in value.items():
        try:
            UUID(str(task_id))
        except ValueError:
            raise ValueError(f"{name!r} must be the task's id (a UUID), not {task_id!r}") from None
    return MappingProxyType({str(name): str(UUID(str(task_id))) for name, task_id in value.items()})


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110: token
_HEADERS_OF_A_CALL = frozenset({"content-length", "content-type", "idempotency-key", "transfer-encoding"})


def _headers(value: Any) -> Mapping[str, str]:
    value = _pairs(value)
    if not isinstance(value, Mapping):
        raise ValueError("must map header names to texts, or read name=text,name=text")
    for name, text in value.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"has {name!r}, which is no header name")
        if not isinstance(text, str) or not text.isascii() or not text.isprintable():
            raise ValueError(f"must have printable ASCII text for {name!r}")
        if name.lower() in _HEADERS_OF_A_CALL:
            raise ValueError(f"must not have {name!r}, which each call sets for itself")
    return MappingProxyType(dict(value))


def _verify(value: Any) -> Union[bool, str, ssl.SSLContext]:
    if isinstance(value, (bool, ssl.SSLContext)):
        return value
    text = os.fspath(value)
    if text.lower() in _TRUE | _FALSE:
        return _flag(text)
    if not os.path.exists(text):
        raise ValueError("names a file of certificates that is not there")
    return str(text)


def _transport(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value).lower()
    if type(value).__module__.partition(".")[0] == "httpx":
        raise ValueError("is an object of httpx's own: pass an httpx client as http_client")
    if callable(getattr(value, "send", None)) or callable(getattr(value, "asend", None)):
        return value
    raise ValueError("must be the name of a transport, or an object with `send` or `asend`")


def _webhook_secrets(value: Any) -> tuple[str, ...]:
    secrets = [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
    if not all(isinstance(secret, str) and secret for secret in secrets):
        raise _Untold("must be texts that are not empty, the newest first, or read new,old")
    return tuple(secrets)


def _local(value: Any) -> Union[bool, str]:
    if isinstance(value, bool) or value is None:
        return bool(value)
    text = os.fspath(value)
    return _flag(text) if text.lower() in _TRUE | _FALSE else str(text)


@dataclass(frozen=True)
class Option:
    """One option under its three names. The Django key is the argument in capitals."""

    argument: str
    default: Any
    read: Callable[[Any], Any]
    help: str
    secret: bool = False

    @property
    def environment(self) -> str:
        """The environment variable."""
        return f"LOOPAI_{self.argument.upper()}"

    @property
    def django(self) -> str:
        """The key in a Django alias."""
        return self.argument.upper()


OPTIONS: Final[tuple[Option, ...]] = (
    Option("base_url", "http://localhost:8080", _base_url, "address of the server"),
    Option("api_key", None, _api_key, "sent as bearer token", secret=True),
    Option("timeout", 30.0, _seconds, "bound of one attempt in seconds, None for no bound"),
    Option("max_retries", 3, _retries, "repetitions after the first attempt, None for no limit"),
    Option("deadline", None, _seconds, "bound of a whole call in seconds, queue and pauses included"),
    Option("max_connections", 100, _count, "connections, and so requests in flight, a process and loop"),
    Option("transport", "httpx", _transport, "name of a transport, or an object that is one"),
    Option("coalesce", False, _flag, "whether execute calls of the same moment travel as one batch"),
    Option("tasks", MappingProxyType({}), _tasks, "names for task ids"),
    Option("raise_on_error", True, _flag, "whether execute raises for a program that failed"),
    Option("retry_unknown", True, _flag, "whether execute repeats where the request may have arrived"),
    Option("retry_waits", True, _flag, "whether to pause between attempts; off in tests"),
    Option("verify", True, _verify, "TLS: True, False, a file of certificates, or an SSLContext"),
    Option("trust_env", True, _flag, "whether proxies are taken from the environment"),
    Option("headers", MappingProxyType({}), _headers, "headers sent with every request", secret=True),
    Option(
        "webhook_secrets",
        (),
        _webhook_secrets,
        "what webhook deliveries are signed with, the newest first",
        secret=True,
    ),
    Option("telemetry", False, _flag, "whether calls make OpenTelemetry spans and metrics"),
    Option("local", False, _local, "run on an embedded server: True, or its data folder"),
)
"""The one table of options: argument, environment variable and Django key of each."""

_BY_ARGUMENT = {option.argument: option for option in OPTIONS}


@dataclass(frozen=True)
class Config:
    """What a client runs by. Made by `resolve`; `sources` says where each value came from."""

    base_url: str
    api_key: Optional[str] = field(repr=False)
    timeout: Optional[float]
    max_retries: Optional[int]
    deadline: Optional[float]
    max_connections: int
    transport: Any
    coalesce: bool
    tasks: Mapping[str, str]
    raise_on_error: bool
    retry_unknown: bool
    retry_waits: bool
    verify: Union[bool, str, ssl.SSLContext]
    trust_env: bool
    headers: Mapping[str, str] = field(repr=False)
    webhook_secrets: tuple[str, ...] = field(repr=False)
    telemetry: bool
    local: Union[bool, str]
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def changed(self, **arguments: Any) -> Config:
        """A copy with these options, validated; raises `ConfigurationError`."""
        known = {
            name: _read(_BY_ARGUMENT[_known(name)], value, name)
            for name, value in arguments.items()
            if value is not NOT_GIVEN
        }
        sources = {**self.sources, **dict.fromkeys(known, "argument")}
        return replace(self, **known, sources=MappingProxyType(sources))


class Arguments(dict[str, Any]):
    """Arguments as they were given, by name; the repr shows no value, as one is the key."""

    def __repr__(self) -> str:
        return f"<arguments {', '.join(sorted(self))}>"


def resolve(
    arguments: Mapping[str, Any],
    environ: Optional[Mapping[str, str]] = None,
) -> Config:
    """The configuration: argument before environment variable before default.

    An argument that is `NOT_GIVEN` was not given; an environment variable that is empty is not set. Raises
    `ConfigurationError`, naming argument or variable.
    """
    try:
        return _resolved(arguments, os.environ if environ is None else environ)
    except ConfigurationError as error:
        wrong = error.with_traceback(None)
        wrong.__context__ = None
    # Tracebacks may be shown with their locals: neither key nor environment is to be among them.
    del arguments, environ
    raise wrong


def _resolved(arguments: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name in arguments:
        _known(name)
    for option in OPTIONS:
        given = arguments.get(option.argument, NOT_GIVEN)
        if given is not NOT_GIVEN:
            source, value = "argument", _read(option, given, option.argument)
        elif environ.get(option.environment):
            source, value = option.environment, _read(option, environ[option.environment], option.environment)
        else:
            source, value = "default", option.default
        values[option.argument], sources[option.argument] = value, source
    _settle(values, sources)
    if values["local"] and sources["base_url"] == "default":
        values["base_url"] = EMBEDDED
    return Config(**values, sources=MappingProxyType(sources))


def _settle(values: dict[str, Any], sources: dict[str, str]) -> None:
    """Of `transport` and `local`, which exclude each other, the one from the stronger source stays.

    What asks the embedded server says so in its errors: its address is none that another server may have.
    """
    ranks = {name: {"default": 0, "argument": 2}.get(sources[name], 1) for name in ("transport", "local")}
    if not values["local"] or not ranks["transport"]:
        return
    if ranks["local"] == ranks["transport"]:
        raise ConfigurationError("local and transport exclude each other, as the embedded server is one: give one only")
    loser = min(ranks, key=lambda name: ranks[name])
    values[loser], sources[loser] = _BY_ARGUMENT[loser].default, "default"


def from_settings(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The arguments that a settings mapping with capital keys (`BASE_URL`) stands for.

    `where` names the mapping in errors (`LOOPAI['default']`). An unknown key is refused with the nearest right one.
    """
    by_key = {option.django: option.argument for option in OPTIONS}
    arguments = {}
    for key, value in settings.items():
        if key not in by_key:
            raise ConfigurationError(f"{where} has no key {key!r}{_nearest(str(key), by_key)}")
        arguments[by_key[key]] = _read(_BY_ARGUMENT[by_key[key]], value, f"{where}[{key!r}]")
    return arguments


def _known(argument: str) -> str:
    if argument not in _BY_ARGUMENT:
        raise ConfigurationError(f"no option {argument!r}{_nearest(argument, _BY_ARGUMENT)}")
    return argument


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name.upper(), [key.upper() for key in known], n=1, cutoff=0.5)
    right = [key for key in known if close and key.upper() == close[0]]
    return f": did you mean {right[0]!r}?" if right else f"; known are {', '.join(sorted(known))}"


def _read(option: Option, value: Any, source: str) -> Any:
    try:
        return option.read(value)
    except (TypeError, ValueError) as error:
        shown = "" if option.secret or isinstance(error, _Untold) else f", not {value!r}"
        raise ConfigurationError(f"{source} {error}{shown} ({option.help})") from None


assert {option.argument for option in OPTIONS} == {item.name for item in fields(Config)} - {"sources"}  # noqa: S101  # one table
