"""Where an option comes from, and what is said of a wrong one."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from pydantic import HttpUrl, SecretStr

from loopai import LoopaiClient, SyncLoopaiClient
from loopai._core.wire import Reply
from loopai.config import EMBEDDED, NOT_GIVEN, OPTIONS, Config, NotGiven, Option, RateLimit, from_settings, resolve
from loopai.exceptions import ConfigurationError, ValidationException

TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"
OTHER = "0b9e8d7c-6a5b-4c3d-9e2f-1a0b9c8d7e6f"


class Transport:
    """Answers nothing."""

    tasks = MappingProxyType({"known": OTHER})

    def send(self, request: Any) -> Reply:
        return Reply(404, {}, b"")

    async def asend(self, request: Any) -> Reply:
        return Reply(404, {}, b"")


# argument, what the environment holds, what that means, what an argument says, what that means
VALUES: dict[str, tuple[str, Any, Any, Any]] = {
    "base_url": ("https://env.test/api/", "https://env.test/api", "http://arg.test/", "http://arg.test"),
    "api_key": (" env-key ", "env-key", "arg-key", "arg-key"),
    "timeout": ("2.5", 2.5, 7, 7.0),
    "max_retries": ("none", None, 5, 5),
    "deadline": ("60", 60.0, None, None),
    "max_connections": ("7", 7, 9, 9),
    "rate_limit": ("30/minute", RateLimit(30, 60.0), "5/second", RateLimit(5, 1.0)),
    "cert": (__file__, __file__, (__file__, __file__, "pw"), (__file__, __file__, "pw")),
    "proxy": ("http://proxy:3128", "http://proxy:3128", "socks5://me:pw@proxy", "socks5://me:pw@proxy"),
    "max_reply_bytes": ("1000", 1000, None, None),
    "transport": ("HTTPX2", "httpx2", "pyreqwest", "pyreqwest"),
    "coalesce": ("on", True, False, False),
    "tasks": (f"spam={TASK}, ham = {OTHER},", {"spam": TASK, "ham": OTHER}, {"x": TASK.upper()}, {"x": TASK}),
    "validate_inputs": ("on", True, False, False),
    "raise_on_error": ("no", False, True, True),
    "retry_unknown": ("0", False, True, True),
    "retry_waits": ("off", False, True, True),
    "verify": ("false", False, True, True),
    "trust_env": ("FALSE", False, True, True),
    "headers": ("X-Team=ml, X-Other=a=b", {"X-Team": "ml", "X-Other": "a=b"}, {"A": "b"}, {"A": "b"}),
    "webhook_secrets": ("new, old", ("new", "old"), ["a"], ("a",)),
    "webhook_tolerance": ("60", 60.0, 30, 30.0),
    "local": ("true", True, "/tmp/data", "/tmp/data"),
    "telemetry": ("1", True, False, False),
    "llm_model": ("gpt-x", "gpt-x", "other", "other"),
    "llm_base_url": (
        "http://localhost:11434/v1/",
        "http://localhost:11434/v1",
        "https://a.test/v1",
        "https://a.test/v1",
    ),
    "llm_api_key": ("sk-1", "sk-1", "sk-2", "sk-2"),
    "llm_examples": ("0", 0, 12, 12),
    "llm_redact": ("app.privacy:redacted", "app.privacy:redacted", json.dumps, "json:dumps"),
    "llm_max_tokens": ("5000", 5000, 6000, 6000),
    "llm_seconds": ("20", 20.0, 30, 30.0),
    "llm_max_cost": ("0.5", 0.5, 1, 1.0),
    "llm_prices": ("0.4,1.6", (0.4, 1.6), (1, 2), (1.0, 2.0)),
    "llm_unverified": ("draft", "draft", "active", "active"),
}


def named(option: Option) -> str:
    return option.argument


@pytest.mark.parametrize("option", OPTIONS, ids=named)
def test_argument_beats_environment_beats_default(option: Option) -> None:
    """For every option of the table, with the source recorded."""
    text, from_text, given, from_given = VALUES[option.argument]
    name = option.argument

    def value(config: Config) -> tuple[Any, str]:
        return getattr(config, name), config.sources[name]

    assert value(resolve({}, {})) == (option.default, "default")
    assert value(resolve({}, {option.environment: text})) == (from_text, option.environment)
    assert value(resolve({name: NOT_GIVEN}, {option.environment: text})) == (from_text, option.environment)
    assert value(resolve({name: given}, {option.environment: text})) == (from_given, "argument")
    assert value(resolve({name: given}, {})) == (from_given, "argument")
    assert value(resolve({}, {option.environment: ""})) == (option.default, "default")


@pytest.mark.parametrize("option", OPTIONS, ids=named)
def test_a_literal_that_equals_the_default_beats_the_environment(option: Option) -> None:
    """Who writes `timeout=30.0` means it."""
    config = resolve({option.argument: option.default}, {option.environment: VALUES[option.argument][0]})
    assert getattr(config, option.argument) == option.default
    assert config.sources[option.argument] == "argument"


def test_one_table_names_all() -> None:
    """Argument, environment variable and Django key are one name in three spellings."""
    assert {option.argument for option in OPTIONS} == set(VALUES)
    assert {option.environment for option in OPTIONS} == {f"LOOPAI_{name.upper()}" for name in VALUES}
    assert {option.django for option in OPTIONS} == {name.upper() for name in VALUES}
    assert all(option.help for option in OPTIONS)


def test_not_given_is_false_and_shows_its_name() -> None:
    """It reads well in signatures."""
    assert not NOT_GIVEN
    assert repr(NOT_GIVEN) == "NOT_GIVEN"
    assert isinstance(NOT_GIVEN, NotGiven)


WRONG: list[tuple[str, Any, str]] = [
    ("llm_base_url", "ollama", "must be an http:// or https:// address"),
    ("llm_model", " ", "must be a text that is not empty"),
    ("llm_examples", 31, "must be a whole number from 0 to 30, not 31"),
    ("llm_examples", "-1", "must be a whole number from 0 to 30"),
    ("llm_redact", lambda example: example, "must be a function that can be imported by its name"),
    ("llm_redact", "redacted", "must name a function as 'package.module:function'"),
    ("llm_max_tokens", 0, "must be a whole number from 1"),
    ("llm_seconds", "none", "must be a number of seconds above 0"),
    ("llm_max_cost", -1, "must be a number of dollars"),
    ("llm_prices", "0.4", "must be two prices, as in '0.4,1.6'"),
    ("llm_unverified", "maybe", "must be 'active' or 'draft', not 'maybe'"),
    ("base_url", "loopai.test", "must be an http:// or https:// address, not 'loopai.test'"),
    ("base_url", "ftp://loopai.test", "must be an http"),
    ("base_url", "http://", "must be an http"),
    ("base_url", "http://a\nb", "must be an http"),
    ("base_url", "http://a b", "no spaces"),
    ("base_url", "http://a?", "no query"),
    ("base_url", "http://a/#x", "no query"),
    ("base_url", "http://a:99999", "Port out of range"),
    ("base_url", "http://a:0", "a port from 1"),
    ("base_url", "http://a:b", "ort"),
    ("base_url", "http://[", "Invalid IPv6"),
    ("base_url", " ", "must be a text that is not empty"),
    ("base_url", None, "must be a text"),
    ("api_key", "schlüssel", "must be printable ASCII"),
    ("api_key", "a\nb", "must be printable ASCII"),
    ("api_key", " ", "must be a text"),
    ("api_key", b"key", "must be a text"),
    ("timeout", 0, "must be a number of seconds above 0, or None for no limit, not 0"),
    ("timeout", -1.0, "above 0"),
    ("timeout", float("nan"), "above 0"),
    ("timeout", float("inf"), "above 0"),
    ("timeout", 10**400, "must be a number"),
    ("timeout", 1e10, "above 0"),
    ("timeout", True, "above 0"),
    ("timeout", "soon", "must be a number"),
    ("timeout", [1], "must be a number"),
    ("deadline", "-1", "above 0"),
    ("max_retries", -1, "must be a whole number from 0, or None for no limit"),
    ("max_retries", 1.5, "whole number"),
    ("max_retries", True, "whole number"),
    ("max_retries", "1.5", "must be a number"),
    ("max_connections", 0, "must be a whole number from 1"),
    ("max_connections", None, "must be a number"),
    ("max_connections", 2.0, "whole number"),
    ("transport", object(), "must be the name of a transport, or an object"),
    ("transport", "", "must be a text"),
    ("transport", httpx.HTTPTransport(), "pass an httpx client as http_client"),
    ("coalesce", "maybe", "must be true or false, not 'maybe'"),
    ("raise_on_error", None, "must be true or false"),
    ("tasks", "spam", "must read name=id,name=id, and 'spam' does not: as JSON write"),
    ("tasks", f"spam={TASK},ham", "'ham' does not"),
    ("tasks", "{", "cannot be read as JSON"),
    ("tasks", "[1]", "'[1]' does not"),
    ("tasks", {"spam": "x"}, "'spam' must be the task's id (a UUID), not 'x'"),
    ("tasks", 5, "must map names to task ids"),
    ("headers", [("a", "b")], "must map header names to texts"),
    ("headers", {"a b": "c"}, "not a header name"),
    ("headers", {5: "c"}, "not a header name"),
    ("headers", {"a": "c\r\nx: y"}, "printable ASCII text for"),
    ("headers", {"a": 5}, "printable ASCII text for"),
    ("headers", {"Idempotency-Key": "x"}, "each call sets for itself"),
    ("headers", {"Content-Type": "x"}, "each call sets for itself"),
    ("verify", "/no/such/file.pem", "must be the path of a certificate file that exists, not '/no/such/file.pem'"),
    ("verify", 5, "os.PathLike"),
    ("webhook_secrets", ["new", ""], "must be texts that are not empty"),
    ("webhook_secrets", [5], "must be texts that are not empty"),
    ("webhook_secrets", "new,,old", "must be texts that are not empty"),
    ("local", 5, "os.PathLike"),
    ("rate_limit", "30", "must look like '30/minute'"),
    ("rate_limit", "0/minute", "must look like '30/minute'"),
    ("rate_limit", "3/fortnight", "must look like '30/minute'"),
    ("cert", "/no/such.pem", "file not found: '/no/such.pem'"),
    ("cert", ("a", "b", "c", "d"), "must be a file, or (certificate, key)"),
    ("proxy", "socks://proxy", "write socks5:// or socks5h://"),
    ("proxy", "http://me:hush@", "is not the address of a proxy"),
    ("proxy", "http://me:hush@[fe80::1%25eth0]:3128", "must not have a zone id"),
    ("proxy", "http://proxy..test:3128", "must have a host whose labels have 1 to 63 characters"),
    ("tasks", f'{{"spam": "{TASK}", "spam": "{TASK}"}}', "must have each name once"),
    ("headers", '{"X-A": "1", "X-A": "2"}', "must have each name once"),
    ("headers", "'X-A=1'", "must not be in quotes"),
    ("headers", '"X-A=1, X-B=2"', "must not be in quotes"),
    ("tasks", f"'spam={TASK}'", "must not be in quotes"),
    ("max_reply_bytes", 0, "whole number from 1"),
]


@pytest.mark.parametrize(("name", "value", "text"), WRONG, ids=lambda value: str(value)[:20])
def test_a_wrong_value_is_named(name: str, value: Any, text: str) -> None:
    """Argument, Django key or variable, what is wrong, and what the option is for."""
    option = next(option for option in OPTIONS if option.argument == name)
    with pytest.raises(ConfigurationError) as raised:
        resolve({name: value}, {})
    assert str(raised.value).startswith(f"{name} ")
    assert text in str(raised.value)
    assert str(raised.value).endswith(f"({option.help})")
    with pytest.raises(ConfigurationError) as raised:
        from_settings({option.django: value}, "LOOPAI['default']")
    assert str(raised.value).startswith(f"LOOPAI['default']['{option.django}'] ")
    assert text in str(raised.value)
    if isinstance(value, str) and value:
        with pytest.raises(ConfigurationError) as raised:
            resolve({}, {option.environment: value})
        assert str(raised.value).startswith(f"{option.environment} ")


def test_empty_and_none_where_they_mean_something() -> None:
    """No key is no key; the files of certificates and contexts are taken as they are."""
    assert resolve({"api_key": ""}, {}).api_key is None
    assert resolve({"api_key": None}, {"LOOPAI_API_KEY": "x"}).api_key is None
    assert resolve({"timeout": None}, {}).timeout is None
    assert resolve({"local": None}, {}).local is False
    assert resolve({"local": Path("/tmp/x")}, {}).local == "/tmp/x"
    assert resolve({"verify": Path(__file__)}, {}).verify == __file__
    context = ssl.create_default_context()
    assert resolve({"verify": context}, {}).verify is context


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("time_out", "timeout"),
        ("baseurl", "base_url"),
        ("apikey", "api_key"),
        ("retries", "max_retries"),
        ("TIMEOUT", "timeout"),
    ],
)
def test_an_unknown_name_gets_the_nearest_right_one(wrong: str, right: str) -> None:
    """In arguments and in settings alike."""
    with pytest.raises(ConfigurationError, match=f"no option '{wrong}': did you mean '{right}'"):
        resolve({wrong: 1}, {})
    with pytest.raises(ConfigurationError, match=f"LOOPAI has no key '{wrong}.*did you mean '{right.upper()}'"):
        from_settings({f"{wrong}_" if wrong == "TIMEOUT" else wrong: 1}, "LOOPAI")


def test_a_name_like_none_gets_them_all() -> None:
    """There is nothing near: the list is short enough."""
    with pytest.raises(ConfigurationError, match="no option 'zzz'; known are api_key, base_url, "):
        resolve({"zzz": 1}, {})


def test_settings_become_arguments() -> None:
    """Capital keys, checked at once."""
    settings = {"BASE_URL": "http://x/", "TIMEOUT": "5", "TASKS": {"spam": TASK}}
    arguments = from_settings(settings, "LOOPAI")
    assert arguments == {"base_url": "http://x", "timeout": 5.0, "tasks": {"spam": TASK}}
    assert resolve(arguments, {}).tasks == {"spam": TASK}


def test_the_real_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client made without arguments is made by its variables."""
    monkeypatch.setenv("LOOPAI_BASE_URL", "http://env.test/")
    monkeypatch.setenv("LOOPAI_API_KEY", "k")
    monkeypatch.setenv("LOOPAI_TIMEOUT", "5")
    monkeypatch.setenv("LOOPAI_MAX_RETRIES", "none")
    client = SyncLoopaiClient()
    assert (client.base_url, client.api_key, client.timeout, client.max_retries) == ("http://env.test", "k", 5.0, None)
    assert client.config.sources["timeout"] == "LOOPAI_TIMEOUT"
    positional = SyncLoopaiClient("http://arg.test//", "a", 30.0, 3)
    assert (positional.base_url, positional.api_key, positional.timeout, positional.max_retries) == (
        "http://arg.test",
        "a",
        30.0,
        3,
    )


def test_defaults_are_the_published_ones() -> None:
    """The earlier SDK's, which code relies on."""
    client = LoopaiClient()
    assert (client.base_url, client.api_key, client.timeout, client.max_retries) == (
        "http://localhost:8080",
        None,
        30.0,
        3,
    )


@pytest.mark.parametrize("kind", [SyncLoopaiClient, LoopaiClient])
def test_http_client_transport_and_local_exclude_each_other(kind: Any) -> None:
    """Two of them in one place are a mistake, and told as one."""
    brought = httpx.Client() if kind is SyncLoopaiClient else httpx.AsyncClient()
    for options in (
        {"http_client": brought, "transport": Transport()},
        {"http_client": brought, "transport": "httpx"},
        {"http_client": brought, "local": True},
        {"transport": Transport(), "local": True},
        {"transport": "httpx", "local": "/tmp/x"},
    ):
        with pytest.raises(ConfigurationError, match="exclude each other"):
            kind(**options)


def test_of_transport_and_local_the_stronger_source_stays() -> None:
    """A variable does not break what the code says."""
    config = resolve({"transport": Transport()}, {"LOOPAI_LOCAL": "1"})
    assert (config.local, config.sources["local"]) == (False, "default")
    config = resolve({"local": True}, {"LOOPAI_TRANSPORT": "httpx2"})
    assert (config.local, config.transport) == (True, "httpx")
    assert resolve({"local": False, "transport": "httpx"}, {}).local is False
    with pytest.raises(ConfigurationError, match="exclude each other"):
        resolve({}, {"LOOPAI_LOCAL": "1", "LOOPAI_TRANSPORT": "httpx"})


@pytest.mark.parametrize("kind", [SyncLoopaiClient, LoopaiClient])
def test_a_transport_must_serve_the_client(kind: Any) -> None:
    """Unknown names and objects of the other world are refused where the client is made."""

    class Half:
        def send(self, request: Any) -> None: ...

    class OtherHalf:
        async def asend(self, request: Any) -> None: ...

    with pytest.raises(ConfigurationError, match=r"transport: .* has no `(a?)send`, which .*LoopaiClient needs"):
        kind(transport=OtherHalf() if kind is SyncLoopaiClient else Half())
    with pytest.raises(ConfigurationError, match="carrier-pigeon"):
        kind(transport="carrier-pigeon")


def test_changed_options() -> None:
    """A copy has its own options, sources and headers; what belongs to connections stays."""
    client = SyncLoopaiClient("http://x", "k", transport=Transport(), tasks={"spam": TASK})
    copy = client.with_options(timeout=1, max_retries=None, api_key="other", tasks={"ham": OTHER})
    assert (copy.timeout, copy.max_retries, copy.api_key) == (1.0, None, "other")
    assert (client.timeout, client.max_retries, client.api_key) == (30.0, 3, "k")
    assert copy.config.sources["timeout"] == "argument"
    assert client.config.sources["timeout"] == "default"
    assert type(copy) is SyncLoopaiClient
    with pytest.raises(ConfigurationError, match="base_url cannot be changed here"):
        client.with_options(base_url="http://y")
    with pytest.raises(ConfigurationError, match="did you mean 'timeout'"):
        client.with_options(timout=5)
    with pytest.raises(ConfigurationError, match="timeout must be a number"):
        client.with_options(timeout="x")


def test_task_names() -> None:
    """A name stands wherever an id may."""
    client = SyncLoopaiClient(transport=Transport(), tasks={"spam": TASK})
    for name in ("spam", TASK, TASK.upper(), "{" + TASK + "}"):
        assert client.bind(name, input=int, output=int).task_id == TASK
    assert client.bind("known", input=int, output=int).task_id == OTHER


def test_ids_of_other_things_have_no_names() -> None:
    """Only where a task is meant."""
    client = SyncLoopaiClient(transport=Transport())
    with pytest.raises(ValidationException, match=r"program_id: 5 is not a UUID$"):
        client.get_recommendations(5)  # type: ignore[arg-type]  # on purpose


def test_a_closed_client_says_so() -> None:
    """Instead of opening connections that nobody closes."""
    with SyncLoopaiClient(transport=Transport()) as client:
        pass
    client.close()
    with pytest.raises(RuntimeError, match="this SyncLoopaiClient is closed: make a new one"):
        client.get_health()


def test_headers_of_yours_come_along() -> None:
    """They replace ours of the same name, whatever the case."""
    seen = []

    class Listening(Transport):
        def send(self, request: Any) -> Reply:
            seen.append(dict(request.headers))
            return Reply(404, {}, b"")

    client = SyncLoopaiClient(transport=Listening(), headers={"User-Agent": "mine", "X-Team": "ml"})
    with pytest.raises(Exception, match="not found"):
        client.get_task(TASK)
    assert seen[0]["user-agent"] == "mine"
    assert seen[0]["x-team"] == "ml"
    assert "authorization" not in seen[0]


SECRET = "sk-1234567890abcdef"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base_url", SECRET),
        ("base_url", f"http://x/?key={SECRET}"),
        ("base_url", f"http://me:{SECRET}@x"),
        ("headers", f"X-Api-Key={SECRET},more{SECRET}"),
        ("headers", f"X-Api-Key={SECRET},more{SECRET}=1 ,bad {SECRET}=2"),
        ("headers", f'{{"X-Api-Key": "{SECRET}"'),
        ("headers", f'{{"bad {SECRET}": "x"}}'),
        ("headers", {f"bad {SECRET}": "x"}),
        ("headers", {"X-Api-Key": f"{SECRET}\n"}),
        ("api_key", f"{SECRET}\n\u00e9"),
        ("webhook_secrets", f'["{SECRET}"'),
        ("webhook_secrets", [SECRET, 5]),
    ],
)
def test_no_secret_stands_in_an_error(name: str, value: Any) -> None:
    """Nor in the variables of its traceback, the key in the address's place included."""
    with pytest.raises(ConfigurationError) as raised:
        SyncLoopaiClient(**{name: value})
    assert SECRET not in str(raised.value)
    here, frame = True, raised.value.__traceback__
    while frame is not None:
        if not here:  # the test's own variables are its own
            assert SECRET not in repr(frame.tb_frame.f_locals)
        here, frame = False, frame.tb_next


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("headers", '{"X-A": "1, 2", "X-B": "c=d"}', {"X-A": "1, 2", "X-B": "c=d"}),
        ("headers", "X-A=1, X-B=c=d", {"X-A": "1", "X-B": "c=d"}),
        ("headers", {"X-A": SecretStr("1")}, {"X-A": "1"}),
        ("tasks", f' {{"spam": "{TASK}"}}', {"spam": TASK}),
        ("tasks", f"spam={TASK}, ham={TASK}", {"spam": TASK, "ham": TASK}),
        ("webhook_secrets", '["new", "old"]', ("new", "old")),
        ("webhook_secrets", [SecretStr("new")], ("new",)),
        ("webhook_secrets", SecretStr("new,old"), ("new", "old")),
        ("api_key", SecretStr("k"), "k"),
        ("base_url", HttpUrl("https://x.test/a/"), "https://x.test/a"),
        ("base_url", httpx.URL("https://x.test/"), "https://x.test"),
        ("base_url", "http://[::1]:8080", "http://[::1]:8080"),
        ("base_url", "http://b\u00fccher.test", "http://b\u00fccher.test"),
    ],
)
def test_forms_that_people_write(name: str, text: Any, value: Any) -> None:
    """JSON as pydantic-settings has it, pairs, pydantic's secrets and addresses, and httpx's."""
    assert getattr(resolve({name: text}, {}), name) == value
    if isinstance(text, str):
        assert getattr(resolve({}, {f"LOOPAI_{name.upper()}": text}), name) == value


@pytest.mark.parametrize("part", ["gzip", "=x", "bad name=x", "X-A=1,X-A=2"])
def test_a_part_that_is_no_header_is_refused(part: str) -> None:
    """A comma always separates; a text with commas is written as JSON."""
    with pytest.raises(ConfigurationError, match=r"JSON|once"):
        resolve({}, {"LOOPAI_HEADERS": f"Accept-Encoding=br,{part}"})


@pytest.mark.parametrize(
    "host", ["a..b", f"{'x' * 64}.test", f"{'x.' * 130}test", ".test", "[fe80::1%25eth0]", "[::g]", "a b", "a,b"]
)
def test_a_host_that_nobody_can_look_up_is_refused(host: str) -> None:
    """When the client is made, not at each call."""
    with pytest.raises(ConfigurationError, match="base_url must"):
        resolve({"base_url": f"http://{host}/"}, {})


def test_which_server_is_asked_is_decided_once() -> None:
    """An address as an argument beats `LOOPAI_LOCAL`; `local` as an argument beats any address of the environment."""
    local, url = {"LOOPAI_LOCAL": "1"}, {"LOOPAI_BASE_URL": "https://env.test"}
    assert (resolve({}, local).local, resolve({}, local).base_url) == (True, EMBEDDED)
    given = resolve({"base_url": "https://prod.test"}, {**local, "LOOPAI_TRANSPORT": "httpx2"})
    assert (given.local, given.base_url, given.transport) == (False, "https://prod.test", "httpx2")
    for arguments, environ in (
        ({"local": True}, url),
        ({"local": True, "base_url": "https://arg.test"}, {}),
        ({"local": "/tmp/x"}, {**url, "LOOPAI_TRANSPORT": "httpx2"}),
        ({}, {**url, **local}),
    ):
        found = resolve(arguments, environ)
        assert found.local
        assert (found.base_url, found.transport) == (EMBEDDED, "httpx")


def test_a_client_of_ones_own_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked is the client that was brought."""
    monkeypatch.setenv("LOOPAI_LOCAL", "1")
    with httpx.Client() as brought:
        client = SyncLoopaiClient(http_client=brought)
    assert client.config.local is False
    assert client.base_url == "http://localhost:8080"
    assert type(client._transport).__name__ == "BroughtClient"
    monkeypatch.setenv("LOOPAI_BASE_URL", "https://env.test")
    with httpx.Client(base_url="https://own.test/api/") as brought:
        assert SyncLoopaiClient(http_client=brought).base_url == "https://own.test/api"
        assert SyncLoopaiClient("https://argument.test", http_client=brought).base_url == "https://argument.test"
    with httpx.Client() as brought:
        assert SyncLoopaiClient(http_client=brought).base_url == "https://env.test"
    prod = SyncLoopaiClient("https://prod.test")
    assert "prod.test" in repr(prod)
    assert type(prod._transport).__module__ != "loopai.local.transport"
