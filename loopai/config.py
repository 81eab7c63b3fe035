"""The configuration: frozen and validated, made of arguments, environment and framework settings."""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import ssl
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, Callable, Final, Literal, Optional, TypeVar, Union, get_args
from urllib.parse import SplitResult, urlsplit
from uuid import UUID

from .exceptions import ConfigurationError
from .language_model import MOST_EXAMPLES, LanguageModel, Unverified, name_of

T = TypeVar("T")


class NotGiven(Enum):
    """The type of `NOT_GIVEN`, which stands for an omitted argument where `None` has a meaning."""

    NOT_GIVEN = "NOT_GIVEN"

    def __repr__(self) -> str:
        return self.value

    def __bool__(self) -> bool:
        return False


NOT_GIVEN: Final = NotGiven.NOT_GIVEN
Maybe = Union[T, NotGiven]

TransportName = Literal["httpx", "httpx2", "pyreqwest"]
"""The transports that can be chosen by name. Each is named after the library it needs."""

TRANSPORT_NAMES: Final[tuple[str, ...]] = get_args(TransportName)

LONGEST_BOUND = 1e9
"""Seconds (31 years). Locks and sockets accept little more than that."""

EMBEDDED = "http://embedded"
"""The address that stands for the embedded server in this process. Nothing listens there."""

LONGEST_HOST, LONGEST_LABEL = 253, 63
"""Most characters of a host name and of each of its labels (RFC 1035)."""

_HOST_NAME = re.compile(r"(?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+)?(?:/[a-z0-9/-]*)?|localhost(?::\d+)?")
"""Matches an address without its scheme; such a text cannot be a key."""

_LABEL = re.compile(r"[0-9A-Za-z_-]+")

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def _bare(value: Any) -> Any:
    """Return the text of pydantic's secrets and of pydantic's and httpx's addresses; other values unchanged."""
    if callable(getattr(value, "get_secret_value", None)):
        return value.get_secret_value()
    if not isinstance(value, str) and hasattr(value, "scheme") and hasattr(value, "host"):
        return str(value)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty")
    return value.strip()


def _base_url(value: Any) -> str:
    url = _text(_bare(value)).rstrip("/")
    if "@" in url:
        raise _UntoldError("must not carry a user or password, so no @: pass the key as api_key")
    if "://" not in url:
        # Not shown: it may be a key, passed in the wrong place.
        text = "must be an http:// or https:// address"
        if _HOST_NAME.fullmatch(url):
            raise ValueError(text)
        raise _UntoldError(f"{text}; the key is the argument api_key")
    if " " in url or "?" in url or "#" in url:
        raise _UntoldError("must end with its path: no query, no fragment, no spaces")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:  # brackets without an address, an invalid port
        raise ValueError(f"must be an http:// or https:// address: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or any(not letter.isprintable() for letter in url):
        raise ValueError("must be an http:// or https:// address")
    if port == 0:
        raise ValueError("must name a port from 1 to 65535")
    _check_host(parts.hostname)
    return url


def _check_host(host: str) -> None:
    """Raise `ValueError` for a host that cannot be looked up, so that it fails here and not at each call."""
    if "%" in host:
        raise ValueError("must not have a zone id (%…) in its host: use the address without it")
    if ":" in host:
        try:
            ip_address(host)
        except ValueError:
            raise ValueError("must have an IPv6 address between its brackets") from None
        return
    try:
        labels = host.rstrip(".").encode("idna").decode("ascii").split(".")
    except UnicodeError:
        raise ValueError("must have a host whose labels have 1 to 63 characters") from None
    if len(host) > LONGEST_HOST or not all(0 < len(label) <= LONGEST_LABEL for label in labels):
        raise ValueError("must have a host whose labels have 1 to 63 characters")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("must have a host of letters, digits and hyphens")


class _UntoldError(ValueError):
    """An error about a value that must not be shown because it holds a secret."""


KeySource = Callable[[], Union[str, Awaitable[Optional[str]], None]]
"""A function that returns the key for each attempt. Only the asynchronous client awaits coroutines."""


def _api_key(value: Any) -> Union[str, KeySource, None]:
    value = _bare(value)
    if value is None or value == "":
        return None
    if callable(value):
        source: KeySource = value
        return source
    key = _text(value)
    if not key.isascii() or not key.isprintable():
        raise ValueError("must be printable ASCII, as it is sent in a header")
    return key


def _seconds(value: Any) -> Optional[float]:
    if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
        return None
    seconds = math.nan if isinstance(value, bool) else _number(float, value)
    if not 0 < seconds <= LONGEST_BOUND:
        raise ValueError("must be a number of seconds above 0, or None for no limit")
    return seconds


def _retries(value: Any) -> Optional[int]:
    if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
        return None
    retries = -1 if isinstance(value, (bool, float)) else _number(int, value)
    if retries < 0:
        raise ValueError("must be a whole number from 0, or None for no limit")
    return retries


def _bytes(value: Any) -> Optional[int]:
    if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
        return None
    return _count(value)


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


def _pairs(value: Any, what: str, *, secret: bool = False) -> Any:
    """Parse a text of the environment, `name=text,name=text` or a JSON object, to a mapping; other values unchanged.

    `what` names the kind of text in errors. Errors about a `secret` option show no part of it.
    """
    if not isinstance(value, str):
        return value
    as_json = f'as JSON write {{"name": "{what}"}}'
    text = value.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        raise _UntoldError("must not be in quotes: not every tool that sets variables removes them")
    if text.startswith("{"):
        try:
            return json.loads(text, object_pairs_hook=_each_once)
        except _UntoldError:
            raise
        except ValueError:
            raise _UntoldError(f"cannot be read as JSON: {as_json}") from None
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    for number, (name, equals, _) in enumerate(pairs, 1):
        if not equals or not name.strip():
            part = f"part {number} of {len(pairs)}" if secret else repr(name + equals)
            raise _UntoldError(f"must read name={what},name={what}, and {part} does not: {as_json}")
    return _each_once([(name.strip(), text.strip()) for name, _, text in pairs])


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _UntoldError("must have each name once")
    return found


def _tasks(value: Any) -> Mapping[str, str]:
    value = _pairs(value, "id")
    if not isinstance(value, Mapping):
        raise ValueError("must map names to task ids, or read name=id,name=id, or be a JSON object")
    for name, task_id in value.items():
        try:
            UUID(str(task_id))
        except ValueError:
            raise ValueError(f"{name!r} must be the task's id (a UUID), not {task_id!r}") from None
    return MappingProxyType({str(name): str(UUID(str(task_id))) for name, task_id in value.items()})


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110: token
_HEADERS_OF_A_CALL = frozenset({"content-length", "content-type", "idempotency-key", "transfer-encoding"})


def _headers(value: Any) -> Mapping[str, str]:
    text_given = isinstance(value, str)
    value = _pairs(value, "text", secret=True)
    if not isinstance(value, Mapping):
        raise ValueError("must map header names to texts, or read name=text,name=text, or be a JSON object")
    found = {}
    for number, (name, given) in enumerate(value.items(), 1):
        text = _bare(given)
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            hint = '; commas separate headers: as JSON write {"name": "text, with commas"}' if text_given else ""
            raise _UntoldError(f"has a name, that of header {number}, which is not a header name{hint}")
        if not isinstance(text, str) or not text.isascii() or not text.isprintable():
            shown = f"header {number}" if text_given else repr(name)
            raise _UntoldError(f"must have printable ASCII text for {shown}")
        if name.lower() in _HEADERS_OF_A_CALL:
            raise ValueError(f"must not have {name.lower()!r}, which each call sets for itself")
        found[name] = text
    if len({name.lower() for name in found}) < len(found):
        raise _UntoldError("must have each header once; upper and lower case are the same")
    return MappingProxyType(found)


SYSTEM: Final = "system"
"""The value of `verify` that trusts the operating system's certificate authorities."""


def _verify(value: Any) -> Union[bool, str, ssl.SSLContext]:
    if isinstance(value, (bool, ssl.SSLContext)):
        return value
    text = os.fspath(value)
    if text.lower() == SYSTEM:
        return SYSTEM
    if text.lower() in _TRUE | _FALSE:
        return _flag(text)
    if not os.path.exists(text):
        raise ValueError("must be the path of a certificate file that exists")
    return str(text)


PROXY_SCHEMES: Final = frozenset({"http", "https", "socks5", "socks5h"})


def read_proxy(address: str) -> SplitResult:
    """Return the parts of a proxy's address. Raises `ValueError`, which shows nothing but the scheme."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is not a number
        raise _UntoldError("is not the address of a proxy") from None
    if parts.scheme in {"socks", "socks4", "socks4a"}:
        raise _UntoldError(f"has the unsupported scheme {parts.scheme}://: write socks5:// or socks5h://")
    if parts.scheme not in PROXY_SCHEMES or not host or port == 0:
        raise _UntoldError("is not the address of a proxy")
    try:
        _check_host(host)
    except ValueError as error:
        raise _UntoldError(str(error)) from None
    return parts


def _proxy(value: Any) -> Optional[str]:
    value = _bare(value)
    if value is None or (isinstance(value, str) and value.strip().lower() in {"", "none"}):
        return None
    address = _text(value)
    address = address if "://" in address else f"http://{address}"
    read_proxy(address)
    return address


Cert = Union[str, tuple[str, ...]]
"""One file with certificate and key, or both files, or both and the key's password."""


def _cert(value: Any) -> Optional[Cert]:
    if value is None:
        return None
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")] if "," in value else value
    if not isinstance(value, (list, tuple)):
        value = [value]
    if not 1 <= len(value) <= 3:
        raise _UntoldError("must be a file, or (certificate, key), or (certificate, key, password)")
    paths = [os.fspath(part) for part in value[:2]]
    for path in paths:
        if not os.path.isfile(path):
            raise _UntoldError(f"file not found: {path!r}")
    parts = (*map(str, paths), *map(str, map(_bare, value[2:])))
    return parts if len(parts) > 1 else parts[0]


@dataclass(frozen=True)
class RateLimit:
    """At most `requests` requests in `seconds` seconds."""

    requests: int
    seconds: float


_PERIODS = {"s": 1.0, "second": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0, "h": 3600.0, "hour": 3600.0}


def _rate_limit(value: Any) -> Optional[RateLimit]:
    if value is None or isinstance(value, RateLimit):
        return value
    number, slash, period = (part.strip().lower() for part in _text(value).partition("/"))
    if not slash and number == "none":
        return None
    seconds = _PERIODS.get(period)
    if not number.isdecimal() or int(number) < 1 or seconds is None:
        raise ValueError("must look like '30/minute', with second, minute or hour")
    return RateLimit(int(number), seconds)


def _transport(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value).lower()
    if type(value).__module__.partition(".")[0] == "httpx":
        raise ValueError("is an httpx transport: pass an httpx client as http_client instead")
    if callable(getattr(value, "send", None)) or callable(getattr(value, "asend", None)):
        return value
    raise ValueError("must be the name of a transport, or an object with `send` or `asend`")


def _webhook_secrets(value: Any) -> tuple[str, ...]:
    value = _bare(value)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise _UntoldError('cannot be read as JSON: write ["new", "old"], or new,old') from None
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if isinstance(parts, (bytes, Mapping)):
        raise _UntoldError("must be a list of texts, newest first, or new,old")
    secrets = [_bare(part) for part in parts]
    if not all(isinstance(secret, str) and secret for secret in secrets):
        raise _UntoldError("must be texts that are not empty, newest first, or new,old")
    return tuple(secrets)


def _local(value: Any) -> Union[bool, str]:
    if isinstance(value, bool) or value is None:
        return bool(value)
    text = os.fspath(value)
    return _flag(text) if text.lower() in _TRUE | _FALSE else str(text)


def _optional_text(value: Any) -> Optional[str]:
    return None if value is None or value == "" else _text(value)


def _llm_base_url(value: Any) -> Optional[str]:
    return None if value is None or value == "" else _base_url(value)


def _llm_key(value: Any) -> Optional[str]:
    key = _api_key(value)
    if key is not None and not isinstance(key, str):
        raise _UntoldError("must be a text")
    return key


def _llm_examples(value: Any) -> int:
    count = -1 if isinstance(value, (bool, float)) else _number(int, value)
    if not 0 <= count <= MOST_EXAMPLES:
        raise ValueError(f"must be a whole number from 0 to {MOST_EXAMPLES}")
    return count


def _redact(value: Any) -> Optional[str]:
    if value is None or value == "":
        return None
    if callable(value):
        return name_of(value)
    text = _text(value)
    if not re.fullmatch(r"[\w.]+:[\w.]+", text):
        raise ValueError("must name a function as 'package.module:function'")
    return text


def _dollars(value: Any) -> Optional[float]:
    if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
        return None
    dollars = math.nan if isinstance(value, bool) else _number(float, value)
    if not 0 <= dollars <= LONGEST_BOUND:
        raise ValueError("must be a number of dollars, or None")
    return dollars


def _prices(value: Any) -> Optional[tuple[float, float]]:
    if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
        return None
    parts = value.split(",") if isinstance(value, str) else list(value)
    prices = [_dollars(part) for part in parts]
    if len(prices) != 2 or None in prices:
        raise ValueError("must be two prices, as in '0.4,1.6'")
    return float(prices[0] or 0), float(prices[1] or 0)


def _llm_seconds(value: Any) -> float:
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError("must be a number of seconds above 0")
    return seconds


def _unverified(value: Any) -> str:
    if value not in get_args(Unverified):
        raise ValueError("must be 'active' or 'draft'")
    return str(value)


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
    Option("api_key", None, _api_key, "bearer token, or a function that returns one for each attempt", secret=True),
    Option("timeout", 30.0, _seconds, "time limit for one attempt, in seconds; None for no limit"),
    Option("max_retries", 3, _retries, "retries after the first attempt; None for no limit"),
    Option("deadline", None, _seconds, "time limit for a whole call, retries and pauses included, in seconds"),
    Option("max_connections", 100, _count, "most connections, and so requests in flight, per process and event loop"),
    Option("max_reply_bytes", 64_000_000, _bytes, "largest reply, in decoded bytes; None for no limit"),
    Option("transport", "httpx", _transport, "name of a transport, or a transport object"),
    Option("coalesce", False, _flag, "whether execute calls of the same moment are sent as one batch"),
    Option("tasks", MappingProxyType({}), _tasks, "names for task ids"),
    Option("validate_inputs", False, _flag, "whether to check inputs against the task's schema before they are sent"),
    Option("raise_on_error", True, _flag, "whether execute raises if the program fails"),
    Option("retry_unknown", True, _flag, "whether execute retries if the request may already have arrived"),
    Option("retry_waits", True, _flag, "whether to pause between attempts; turn it off in tests"),
    Option("rate_limit", None, _rate_limit, "most requests to send, such as '30/minute'; None for no limit"),
    Option("verify", True, _verify, "TLS: True, False, 'system', the path of a CA file, or an SSLContext"),
    Option("cert", None, _cert, "client certificate: a path, or (certificate, key[, password])", secret=True),
    Option("proxy", None, _proxy, "address of a proxy; takes precedence over the environment's", secret=True),
    Option("trust_env", True, _flag, "whether to use the environment's proxies"),
    Option("headers", MappingProxyType({}), _headers, "headers sent with every request", secret=True),
    Option(
        "webhook_secrets",
        (),
        _webhook_secrets,
        "secrets that webhook deliveries are signed with, newest first",
        secret=True,
    ),
    Option("webhook_tolerance", 3600.0, _seconds, "greatest age of a webhook event, in seconds; None for any"),
    Option("telemetry", False, _flag, "whether calls record OpenTelemetry spans and metrics"),
    Option("local", False, _local, "run on an embedded server: True, or its data folder"),
    Option("llm_model", None, _optional_text, "language model that writes programs; examples are sent to it"),
    Option("llm_base_url", None, _llm_base_url, "its OpenAI-compatible endpoint; None for OpenAI's own"),
    Option("llm_api_key", None, _llm_key, "key of that endpoint", secret=True),
    Option("llm_examples", MOST_EXAMPLES, _llm_examples, "most examples of a task that are sent to the model"),
    Option("llm_redact", None, _redact, "function that changes each example before it is sent to the model"),
    Option("llm_max_tokens", 100_000, _count, "most tokens of one generation, input and output"),
    Option("llm_seconds", 120.0, _llm_seconds, "most seconds of one generation"),
    Option("llm_max_cost", None, _dollars, "most dollars of one generation; None for no limit"),
    Option("llm_prices", None, _prices, "dollars per million tokens, input and output"),
    Option(
        "llm_unverified", "active", _unverified, "status of a program that no examples could check: active or draft"
    ),
)
"""The one table of options: argument, environment variable and Django key of each."""

_BY_ARGUMENT = {option.argument: option for option in OPTIONS}


@dataclass(frozen=True)
class Config:
    """The options of a client. Made by `resolve`; `sources` says where each value came from."""

    base_url: str
    api_key: Union[str, KeySource, None] = field(repr=False)
    timeout: Optional[float]
    max_retries: Optional[int]
    deadline: Optional[float]
    max_connections: int
    max_reply_bytes: Optional[int]
    transport: Any
    coalesce: bool
    tasks: Mapping[str, str]
    validate_inputs: bool
    raise_on_error: bool
    retry_unknown: bool
    retry_waits: bool
    rate_limit: Optional[RateLimit]
    verify: Union[bool, str, ssl.SSLContext]
    cert: Optional[Cert] = field(repr=False)
    proxy: Optional[str] = field(repr=False)
    trust_env: bool
    headers: Mapping[str, str] = field(repr=False)
    webhook_secrets: tuple[str, ...] = field(repr=False)
    webhook_tolerance: Optional[float]
    telemetry: bool
    local: Union[bool, str]
    llm_model: Optional[str]
    llm_base_url: Optional[str]
    llm_api_key: Optional[str] = field(repr=False)
    llm_examples: int
    llm_redact: Optional[str]
    llm_max_tokens: int
    llm_seconds: float
    llm_max_cost: Optional[float]
    llm_prices: Optional[tuple[float, float]]
    llm_unverified: Unverified
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def language_model(self) -> Optional[LanguageModel]:
        """Return the language model for the embedded server; None for none. Raises `ConfigurationError`."""
        if self.llm_model is None:
            return None
        names = [item.name for item in fields(LanguageModel) if item.name != "model"]
        return LanguageModel(self.llm_model, **{name: getattr(self, f"llm_{name}") for name in names})

    def changed(self, **arguments: Any) -> Config:
        """Return a validated copy with these options. Raises `ConfigurationError`."""
        known = {
            name: _read(_BY_ARGUMENT[_known(name)], value, name)
            for name, value in arguments.items()
            if value is not NOT_GIVEN
        }
        sources = {**self.sources, **dict.fromkeys(known, "argument")}
        return replace(self, **known, sources=MappingProxyType(sources))


class Arguments(dict[str, Any]):
    """Arguments by name. The repr shows no values, because one is the key."""

    def __repr__(self) -> str:
        return f"<arguments {', '.join(sorted(self))}>"


def resolve(
    arguments: Mapping[str, Any],
    environ: Optional[Mapping[str, str]] = None,
) -> Config:
    """Return the configuration: argument before environment variable before default.

    An argument that is `NOT_GIVEN` was not given; an environment variable that is empty is not set. Raises
    `ConfigurationError`, naming argument or variable.
    """
    try:
        return _resolved(arguments, os.environ if environ is None else environ)
    except ConfigurationError as error:
        wrong = error.with_traceback(None)
        wrong.__context__ = None
    # Tracebacks may show local variables: keep key and environment out of them.
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
    return Config(**values, sources=MappingProxyType(sources))


def _settle(values: dict[str, Any], sources: dict[str, str]) -> None:
    """Decide once which server to call: the embedded one, or that of `base_url`, `transport` or `http_client`.

    An argument takes precedence over the environment. From the same source, `local` takes precedence over `base_url`
    and excludes `transport`. For the embedded server, `base_url` is an address that no other server can have.
    """
    ranks = {name: {"default": 0, "argument": 2}.get(sources[name], 1) for name in ("base_url", "transport", "local")}
    if not values["local"]:
        return
    if ranks["local"] < max(ranks["transport"], ranks["base_url"]):
        values["local"], sources["local"] = False, "default"
        return
    if ranks["local"] == ranks["transport"]:
        raise ConfigurationError("local and transport exclude each other: pass one of them")
    for name in ("transport", "base_url"):
        values[name], sources[name] = _BY_ARGUMENT[name].default, "default"
    values["base_url"] = EMBEDDED


def from_settings(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the arguments of a settings mapping with upper-case keys (`BASE_URL`).

    `where` names the mapping in errors (`LOOPAI['default']`). The error for an unknown key suggests the nearest one.
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
        shown = "" if option.secret or isinstance(error, _UntoldError) else f", not {value!r}"
        raise ConfigurationError(f"{source} {error}{shown} ({option.help})") from None


assert {option.argument for option in OPTIONS} == {item.name for item in fields(Config)} - {"sources"}  # noqa: S101  # one table
