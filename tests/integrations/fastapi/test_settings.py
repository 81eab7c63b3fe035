"""`LoopaiSettings`: where each option comes from, and what is said of a wrong one."""

from __future__ import annotations

import copy
import pickle

import pytest
from pydantic import BaseModel, SecretStr

from loopai import ConfigurationError, LoopaiClient
from loopai.config import OPTIONS
from loopai.contrib.fastapi import LoopaiSettings

SPAM = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"


def test_every_option_of_the_core_is_a_setting_with_the_same_default() -> None:
    """A new option in the core's table that is missing here fails this test."""
    settings = LoopaiSettings()
    own = {"check_on_startup", "close_grace"}
    assert set(LoopaiSettings.model_fields) - own == {option.argument for option in OPTIONS}
    assert {option.argument: getattr(settings, option.argument) for option in OPTIONS} == {
        option.argument: option.default for option in OPTIONS
    }


def test_environment_variables_are_those_of_the_core(monkeypatch) -> None:
    """They become the same configuration that a client alone would read."""
    for name, text in {
        "LOOPAI_BASE_URL": "https://loopai.test/",
        "LOOPAI_API_KEY": "key",
        "LOOPAI_TIMEOUT": "none",
        "LOOPAI_MAX_RETRIES": "none",
        "LOOPAI_DEADLINE": "2.5",
        "LOOPAI_MAX_CONNECTIONS": "7",
        "LOOPAI_COALESCE": "yes",
        "LOOPAI_TASKS": f"spam={SPAM}",
        "LOOPAI_HEADERS": "x-team=mail",
        "LOOPAI_WEBHOOK_SECRETS": "new,old",
        "LOOPAI_RAISE_ON_ERROR": "off",
        "LOOPAI_VERIFY": "",
    }.items():
        monkeypatch.setenv(name, text)
    made = LoopaiClient(**LoopaiSettings().arguments()).config
    assert made == LoopaiClient().config
    assert made.deadline == 2.5
    assert made.tasks == {"spam": SPAM}
    assert made.webhook_secrets == ("new", "old")


def test_argument_beats_environment_beats_file_beats_default(tmp_path, monkeypatch) -> None:
    """For each option by itself, in the client too."""
    (tmp_path / ".env").write_text("LOOPAI_TIMEOUT=1\nLOOPAI_DEADLINE=1\nLOOPAI_MAX_CONNECTIONS=1\n")
    monkeypatch.setenv("LOOPAI_TIMEOUT", "2")
    monkeypatch.setenv("LOOPAI_DEADLINE", "2")
    config = LoopaiClient(**LoopaiSettings(timeout=3).arguments()).config
    assert (config.timeout, config.deadline, config.max_connections, config.max_retries) == (3.0, 2.0, 1, 3)


def test_settings_without_file(tmp_path) -> None:
    """pydantic-settings' own arguments work."""
    (tmp_path / ".env").write_text("LOOPAI_TIMEOUT=1\n")
    assert LoopaiSettings(_env_file=None).timeout == 30.0


def test_secrets_stay_secret(monkeypatch) -> None:
    """Whatever a page or log shows of the settings; the client gets them in clear."""
    monkeypatch.setenv("LOOPAI_HEADERS", "authorization-proxy=hush3")
    settings = LoopaiSettings(api_key="hush1", webhook_secrets=["hush2"])
    assert "hush" not in repr(settings) + str(settings) + str(settings.model_copy())
    assert isinstance(settings.api_key, SecretStr)
    assert settings.arguments()["api_key"] == "hush1"
    assert settings.arguments()["webhook_secrets"] == ["hush2"]
    assert LoopaiSettings(api_key=SecretStr("hush1")).arguments()["api_key"] == "hush1"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"timout": 1}, r"no option 'timout': did you mean 'timeout'\?"),
        ({"xyzzy": 1}, "no option 'xyzzy'; known are base_url, api_key"),
        ({"timeout": -1}, "^timeout must be a number of seconds above 0"),
        ({"close_grace": -1}, "^close_grace .*greater than or equal to 0"),
        ({"api_key": "hush\n\x00"}, "^api_key must be printable ASCII"),
        ({"webhook_secrets": ["hush", ""]}, "^webhook_secrets must be texts that are not empty"),
        ({"base_url": "https://user:hush@loopai.test"}, "^base_url must not carry a user or password"),
    ],
)
def test_a_wrong_argument_is_named_and_no_secret_shown(arguments, told) -> None:
    """As `ConfigurationError`, like everywhere in loopai."""
    with pytest.raises(ConfigurationError, match=told) as raised:
        LoopaiSettings(**arguments)
    assert "hush" not in str(raised.value)
    assert raised.value.__context__ is None


def test_a_wrong_variable_is_named(monkeypatch) -> None:
    """All of them, not the first only."""
    monkeypatch.setenv("LOOPAI_MAX_RETRIES", "many")
    monkeypatch.setenv("LOOPAI_CHECK_ON_STARTUP", "perhaps")
    with pytest.raises(ConfigurationError, match=r"LOOPAI_MAX_RETRIES must be a number; LOOPAI_CHECK_ON_STARTUP"):
        LoopaiSettings()


def test_an_alias_has_variables_of_its_own(monkeypatch) -> None:
    """With a prefix of its own it does not get the key that is meant for the other server, and errors say its names."""
    monkeypatch.setenv("LOOPAI_API_KEY", "hush")
    monkeypatch.setenv("LOOPAI_OTHER_TIMEOUT", "4")
    other = LoopaiSettings(_env_prefix="LOOPAI_OTHER_")
    assert other.timeout == 4.0
    assert other.api_key is None
    monkeypatch.setenv("LOOPAI_OTHER_MAX_RETRIES", "many")
    with pytest.raises(ConfigurationError, match="LOOPAI_OTHER_MAX_RETRIES must be a number"):
        LoopaiSettings(_env_prefix="LOOPAI_OTHER_")


def test_settings_of_the_user_s_own_class(monkeypatch) -> None:
    """A subclass may add settings and another prefix."""

    class Mine(LoopaiSettings):
        greeting: str = "hello"

    monkeypatch.setenv("LOOPAI_GREETING", "moin")
    mine = Mine(timeout=4)
    assert mine.greeting == "moin"
    assert "greeting" not in mine.arguments()
    assert mine.arguments()["timeout"] == 4.0


def test_another_alias_has_no_key_of_the_default_ones(monkeypatch) -> None:
    """Its server is not sent the default server's key, headers or secrets; those of its own are its own."""
    monkeypatch.setenv("LOOPAI_API_KEY", "default-key")
    monkeypatch.setenv("LOOPAI_HEADERS", "x-key=default")
    monkeypatch.setenv("LOOPAI_TIMEOUT", "7")

    def config(alias: str, **options):
        return LoopaiClient(**LoopaiSettings(base_url="https://other.test", **options).arguments(alias)).config

    assert (config("default").api_key, config("default").headers) == ("default-key", {"x-key": "default"})
    other = config("other")
    assert (other.api_key, other.headers, other.timeout) == (None, {}, 7.0)
    assert config("other", api_key="own").api_key == "own"
    assert config("other", _env_prefix="LOOPAI_OTHER_").api_key is None
    monkeypatch.setenv("LOOPAI_OTHER_API_KEY", "other-key")
    assert config("other", _env_prefix="LOOPAI_OTHER_").api_key == "other-key"


def test_which_server_is_asked_is_decided_as_for_a_client(monkeypatch) -> None:
    """An address as an argument beats `LOOPAI_LOCAL`, and `local=True` any address of the environment."""
    pytest.importorskip("pydantic_monty", reason="the embedded server runs programs in it")
    monkeypatch.setenv("LOOPAI_LOCAL", "1")
    config = LoopaiClient(**LoopaiSettings(base_url="https://prod.test").arguments()).config
    assert (config.local, config.base_url) == (False, "https://prod.test")
    assert LoopaiClient(**LoopaiSettings().arguments()).base_url == "http://embedded"
    monkeypatch.setenv("LOOPAI_BASE_URL", "https://env.test")
    monkeypatch.setenv("LOOPAI_TRANSPORT", "httpx2")
    assert LoopaiClient(**LoopaiSettings(local=True).arguments()).base_url == "http://embedded"
    monkeypatch.delenv("LOOPAI_TRANSPORT")
    monkeypatch.setenv("LOOPAI_TASKS", f'{{"spam": "{SPAM}"}}')
    assert LoopaiSettings().tasks == {"spam": SPAM}


@pytest.mark.parametrize(
    ("environment", "file", "address"),
    [
        ({"BASE_URL": "https://env.test"}, {"LOCAL": "1"}, "https://env.test"),
        ({"TRANSPORT": "httpx2"}, {"LOCAL": "1"}, "http://localhost:8080"),
        ({"LOCAL": "1"}, {"BASE_URL": "https://file.test"}, "http://embedded"),
        ({"LOCAL": "1"}, {"TRANSPORT": "httpx2"}, "http://embedded"),
        ({"LOCAL": "0"}, {"LOCAL": "1", "BASE_URL": "https://file.test"}, "https://file.test"),
        ({}, {"LOCAL": "1", "BASE_URL": "https://file.test"}, "http://embedded"),
    ],
)
def test_the_stronger_source_says_which_server_is_asked(tmp_path, monkeypatch, environment, file, address) -> None:
    """The environment's address beats `LOOPAI_LOCAL` in `.env`; settings show the address that is asked."""
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(f"LOOPAI_{name}", value)
    (tmp_path / ".env").write_text("".join(f"LOOPAI_{name}={value}\n" for name, value in file.items()))
    settings = LoopaiSettings()
    assert settings.base_url == address
    assert settings.local == (address == "http://embedded")
    assert settings.arguments().get("base_url", "http://embedded") == address
    assert LoopaiSettings(**settings.model_dump()).base_url == address


def test_local_and_a_transport_of_one_source_exclude_each_other(monkeypatch) -> None:
    """As for a client."""
    with pytest.raises(ConfigurationError, match="local and transport exclude each other"):
        LoopaiSettings(local=True, transport="httpx2")
    monkeypatch.setenv("LOOPAI_LOCAL", "1")
    monkeypatch.setenv("LOOPAI_TRANSPORT", "httpx2")
    with pytest.raises(ConfigurationError, match="local and transport exclude each other"):
        LoopaiSettings()


def test_settings_can_be_dumped_copied_pickled_and_nested() -> None:
    """As those of pydantic can; secrets are hidden in JSON."""
    task = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"
    settings = LoopaiSettings(api_key="sk-secret", tasks={"spam": task}, headers={"X-Team": "ml"}, transport=_Mine())
    dumped = settings.model_dump_json()
    assert "sk-secret" not in dumped
    assert (task in dumped, "_Mine" in dumped) == (True, True)
    for copied in (
        settings.model_copy(),
        settings.model_copy(deep=True),
        copy.copy(settings),
        pickle.loads(pickle.dumps(settings)),
    ):
        assert copied.arguments()["tasks"] == {"spam": task}
        assert copied.arguments()["api_key"] == "sk-secret"

    class Site(BaseModel):
        loopai: LoopaiSettings

    assert Site(loopai=settings).model_dump()["loopai"]["tasks"] == {"spam": task}


def test_no_secret_stands_in_the_json_of_settings() -> None:
    """Nor in that of what is nested in other settings; Python's form keeps them."""
    secret = {
        "headers": {"Authorization": "hush"},
        "proxy": "http://me:hush@proxy.test:3128",
        "cert": (__file__, __file__, "hush"),
        "webhook_secrets": ["hush"],
    }
    for key in ("hush", lambda: "hush"):
        settings = LoopaiSettings(api_key=key, rate_limit="30/minute", **secret)
        dumped = settings.model_dump_json()
        assert "hush" not in dumped
        assert "proxy.test:3128" in dumped
        assert "Authorization" in dumped
        again = LoopaiSettings(**settings.model_dump())
        assert again.arguments() == settings.arguments()
    readable = LoopaiSettings(rate_limit="30/minute", proxy="http://proxy.test:3128", cert=__file__)
    again = LoopaiSettings.model_validate_json(readable.model_dump_json())
    assert again.arguments() == readable.arguments()


class _Mine:
    async def asend(self, request):
        raise NotImplementedError
