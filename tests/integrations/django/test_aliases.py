"""`settings.LOOPAI`, and the clients that it stands for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from loopai.config import OPTIONS
from loopai.contrib.django import close_clients, get_async_client, get_client
from loopai.contrib.django.conf import config_of
from loopai.language_model import LanguageModel

from .. import scripted_model


def configured(**options: Any) -> Any:
    return override_settings(LOOPAI={"default": {}, "other": options})


def test_an_alias_gives_one_client_of_each_kind_however_often_it_is_asked_for() -> None:
    """Threads that ask at once share one client; aliases do not share theirs."""
    found: list[Any] = []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        found.append(get_client())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(client) for client in found}) == 1
    assert get_async_client() is get_async_client()
    assert get_client("other") is not get_client()
    assert get_client("other").base_url == "https://other.test/loopai"


def test_every_option_is_a_key() -> None:
    """Whatever a client takes, an alias says in capitals, and the client has it."""
    given = {
        "BASE_URL": "https://loopai.test/",
        "API_KEY": "key",
        "TIMEOUT": "5",
        "MAX_RETRIES": 7,
        "DEADLINE": 9.5,
        "MAX_CONNECTIONS": 3,
        "MAX_REPLY_BYTES": 1000,
        "RATE_LIMIT": "30/minute",
        "CERT": None,
        "PROXY": "http://proxy:3128",
        "TRANSPORT": "httpx",
        "COALESCE": True,
        "TASKS": {"spam": "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"},
        "VALIDATE_INPUTS": sys.version_info >= (3, 10),
        "RAISE_ON_ERROR": False,
        "RETRY_UNKNOWN": False,
        "RETRY_WAITS": False,
        "VERIFY": False,
        "TRUST_ENV": False,
        "HEADERS": {"x-team": "ml"},
        "WEBHOOK_SECRETS": ["new", "old"],
        "WEBHOOK_TOLERANCE": 60,
        "TELEMETRY": False,
        "LOCAL": False,
        "LLM_MODEL": "gpt-test",
        "LLM_BASE_URL": "http://localhost:11434/v1",
        "LLM_API_KEY": "llm-key",
        "LLM_EXAMPLES": 5,
        "LLM_REDACT": "app.privacy:redacted",
        "LLM_MAX_TOKENS": 5000,
        "LLM_SECONDS": 20,
        "LLM_MAX_COST": 0.5,
        "LLM_PRICES": (0.4, 1.6),
        "LLM_UNVERIFIED": "draft",
    }
    assert set(given) == {option.django for option in OPTIONS}
    with configured(**given):
        config = get_client("other").config
    assert (config.base_url, config.api_key, config.timeout, config.deadline) == ("https://loopai.test", "key", 5, 9.5)
    assert (config.max_retries, config.max_connections, config.coalesce) == (7, 3, True)
    assert config.validate_inputs is (sys.version_info >= (3, 10))
    assert (config.raise_on_error, config.retry_unknown, config.retry_waits) == (False, False, False)
    assert (config.verify, config.trust_env, dict(config.headers)) == (False, False, {"x-team": "ml"})
    assert config.webhook_secrets == ("new", "old")
    assert config.language_model == LanguageModel(
        "gpt-test",
        "http://localhost:11434/v1",
        "llm-key",
        examples=5,
        redact="app.privacy:redacted",
        max_tokens=5000,
        seconds=20,
        max_cost=0.5,
        prices=(0.4, 1.6),
        unverified="draft",
    )
    assert list(config.tasks) == ["spam"]


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (
            {"default": {"BASE_ULR": "https://loopai.test"}},
            "LOOPAI['default'] has no key 'BASE_ULR': did you mean 'BASE_URL'?",
        ),
        ({"default": {"TIMEOUT": "soon"}}, "LOOPAI['default']['TIMEOUT'] must be a number"),
        (
            {"default": {"LOCAL": True, "TRANSPORT": "httpx"}},
            "LOOPAI['default']: local and transport exclude each other",
        ),
        ({"other": {}}, 'LOOPAI has no "default" alias'),
        ({"default": "https://loopai.test"}, "LOOPAI must map aliases to their options"),
        (["default"], "LOOPAI must map aliases to their options"),
    ],
)
def test_a_wrong_setting_is_named(setting: Any, text: str) -> None:
    """Alias and key are said, with what would be right; the error is Django's own for settings."""
    with override_settings(LOOPAI=setting), pytest.raises(ImproperlyConfigured) as caught:
        get_client()
    assert text in str(caught.value)


def test_an_unknown_alias_is_answered_with_those_there_are() -> None:
    """Both accessors say which aliases the setting has."""
    for accessor in (get_client, get_async_client):
        with pytest.raises(ImproperlyConfigured, match="no alias 'othr': it has 'default', 'other'"):
            accessor("othr")


def test_a_setting_beats_the_environment_which_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an alias leaves open, a variable may say."""
    monkeypatch.setenv("LOOPAI_TIMEOUT", "11")
    monkeypatch.setenv("LOOPAI_API_KEY", "from outside")
    with override_settings(LOOPAI={"default": {"TIMEOUT": 5}}):
        config = get_client().config
    assert (config.timeout, config.api_key, config.max_retries) == (5, "from outside", 3)


def test_without_the_setting_the_environment_configures_the_default_alias(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """A project needs no LOOPAI to ask one server."""
    del settings.LOOPAI
    monkeypatch.setenv("LOOPAI_BASE_URL", "https://loopai.test")
    close_clients()
    assert get_client().base_url == "https://loopai.test"


def test_the_default_alias_s_variables_are_not_another_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server gets another's key: variables of another alias carry its name."""
    monkeypatch.setenv("LOOPAI_API_KEY", "of the default server")
    monkeypatch.setenv("LOOPAI_LOCAL", "true")
    monkeypatch.setenv("LOOPAI_MAX_RETRIES", "9")
    with configured(BASE_URL="https://other.test"):
        client = get_client("other")
        assert (client.api_key, client.max_retries, client.base_url) == (None, 3, "https://other.test")
        monkeypatch.setenv("LOOPAI_OTHER_API_KEY", "of the other server")
        close_clients()
        assert get_client("other").api_key == "of the other server"
        assert config_of("other").sources["api_key"] == "LOOPAI_OTHER_API_KEY"


def test_a_wrong_variable_is_named_as_it_is_spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names alias and variable, and shows no secret."""
    monkeypatch.setenv("LOOPAI_OTHER_TIMEOUT", "soon")
    with pytest.raises(ImproperlyConfigured, match=r"^LOOPAI\['other'\]: LOOPAI_OTHER_TIMEOUT must be a number"):
        config_of("other")
    monkeypatch.setenv("LOOPAI_OTHER_TIMEOUT", "1")
    monkeypatch.setenv("LOOPAI_OTHER_API_KEY", "sésame")
    with pytest.raises(ImproperlyConfigured) as caught:
        config_of("other")
    assert "sésame" not in str(caught.value)


def test_override_settings_is_taken_into_account_and_back() -> None:
    """Inside a client asks the overriding server, afterwards the first one; the client from before is closed."""
    before = get_client()
    with configured(BASE_URL="https://changed.test"):
        assert get_client("other").base_url == "https://changed.test"
        assert get_async_client("other").base_url == "https://changed.test"
        with pytest.raises(RuntimeError, match="closed"):
            before.get_health()
    assert get_client("other").base_url == "https://other.test/loopai"
    assert get_client().base_url == before.base_url


def test_a_client_that_its_user_closed_is_not_given_out_again() -> None:
    """`with get_client() as client` is not everybody's end."""
    with get_client() as client:
        pass
    assert get_client() is not client
    asyncio.run(get_async_client().close())
    get_async_client().with_options(timeout=1)


def test_an_alias_may_be_an_embedded_server(tmp_path: Path) -> None:
    """With LOCAL both clients work on one embedded server, and close with it."""
    pytest.importorskip("pydantic_monty", reason="the embedded server needs Python 3.10")
    text = {"type": "object"}
    for local in (True, tmp_path / "data"):
        with configured(LOCAL=local):
            task = get_client("other").create_task("words", "Counts words", text, text)
            program = "def main(input):\n    return {'words': len(input['text'].split())}\n"
            get_client("other").push_program(task.id, program)

            async def count(task_id: Any = task.id) -> Any:
                return (await get_async_client("other").execute(task_id, {"text": "one two"})).output

            assert async_to_sync(count)() == {"words": 2}
            assert any(thread.name == "loopai-local" for thread in threading.enumerate())
        assert not any(thread.name == "loopai-local" for thread in threading.enumerate())
    assert (tmp_path / "data").is_dir()


def test_asking_for_clients_does_no_io(project: Path) -> None:
    """Settings up, both clients of each alias given out: no socket, no thread, no file of a data folder."""
    code = """
import os, sys, threading
def watch(event, args):
    assert not event.startswith("socket."), event
import django
django.setup()
sys.addaudithook(watch)
from loopai.contrib.django import get_async_client, get_client
for alias in ("default", "other"):
    get_client(alias), get_async_client(alias)
assert threading.active_count() == 1
"""
    run(code, project)


@pytest.mark.parametrize("setting", [{"default": {}}, {"default": {"LOCAL": True}}])
def test_a_process_that_used_clients_ends_cleanly(project: Path, setting: Any, server: Any) -> None:
    """Nothing is closed by hand: no warning, no thread that holds the process."""
    if "LOCAL" in setting["default"]:
        pytest.importorskip("pydantic_monty", reason="the embedded server needs Python 3.10")
        call = "{}.get_live()"
    else:
        setting = {"default": {"BASE_URL": server.url}}
        call = "{}.execute('7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60', 1)"
    code = f"""
import asyncio, django
from django.conf import settings
settings.configure(LOOPAI={setting!r}, USE_TZ=True)
django.setup()
from loopai.contrib.django import get_async_client, get_client
{call.format("get_client()")}
asyncio.run({call.format("get_async_client()")})
"""
    run(code, project)


def run(code: str, project: Path) -> None:
    environ = {"PYTHONPATH": str(project), "DJANGO_SETTINGS_MODULE": "mailsite.settings", "PATH": "/usr/bin:/bin"}
    if "settings.configure" in code:
        del environ["DJANGO_SETTINGS_MODULE"]
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_default_mapping_leaves_read_only_members_out() -> None:
    """Computed members are the class's own, not the rows': they are neither sent nor required."""
    from loopai.contrib.django.batches.plan import default_mapping

    schema = {
        "properties": {"text": {"type": "string"}, "length": {"type": "integer", "readOnly": True}},
        "required": ["text", "length"],
    }
    assert default_mapping(schema, ["id", "text", "length"], ["id"]) == ("text=text",)
    assert default_mapping(schema, ["id", "text"], ["id"]) == ("text=text",)


def test_an_address_in_the_settings_beats_a_local_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an argument of a client does."""
    monkeypatch.setenv("LOOPAI_OTHER_LOCAL", "1")
    with configured(BASE_URL="https://prod.test"):
        assert (config_of("other").local, config_of("other").base_url) == (False, "https://prod.test")
    with configured(LOCAL=True, BASE_URL="https://prod.test"):
        assert config_of("other").base_url == "http://embedded"
        if sys.version_info >= (3, 10):  # the embedded server needs it
            assert get_client("other").base_url == "http://embedded"


def test_an_alias_has_a_language_model(tmp_path: Path) -> None:
    """Its embedded server asks the alias's model for a program of a task without examples."""
    pytest.importorskip("openai")
    pytest.importorskip("pydantic_monty")
    program = 'def main(input):\n    return "spam" if "free" in input else "not_spam"\n'
    with (
        scripted_model.scripted(scripted_model.block(program)) as model,
        configured(LOCAL=tmp_path, LLM_MODEL="gpt-x", LLM_BASE_URL=model.base_url, LLM_API_KEY=scripted_model.KEY),
    ):
        client = get_client("other")
        task = client.create_task("t", "Is it spam?", {"type": "string"}, {"enum": ["spam", "not_spam"]})
        assert client.execute(task.id, "free money").output == "spam"
    assert model.headers[0]["authorization"] == f"Bearer {scripted_model.KEY}"
