"""What `manage.py check` says of `settings.LOOPAI`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings


def found(**default: Any) -> dict[str, Any]:
    """The messages by id, for a default alias with these options on a server that is right."""
    with override_settings(LOOPAI={"default": {"BASE_URL": "https://loopai.test", **default}}, ROOT_URLCONF=__name__):
        return {message.id: message for message in run_checks(tags=["loopai"])}


urlpatterns: list[Any] = []


def test_right_settings_are_passed_in_silence() -> None:
    """A server with https and a key from the environment."""
    assert found(DEADLINE=10) == {}


@pytest.mark.parametrize(
    ("setting", "known", "text"),
    [
        ([], "loopai.E001", "must map aliases"),
        ({"other": {}}, "loopai.E001", 'no "default" alias'),
        ({"default": {"BASE_ULR": "https://loopai.test"}}, "loopai.E002", "did you mean 'BASE_URL'"),
        ({"default": {"TRANSPORT": "htpx"}}, "loopai.E003", "unknown transport: 'htpx'"),
        ({"default": {}}, "loopai.W001", "names no server; http://localhost:8080 is assumed"),
        ({"default": {"BASE_URL": "https://loopai.test", "VERIFY": False}}, "loopai.W004", "does not verify"),
    ],
)
def test_each_mistake_has_an_id_and_a_hint(setting: Any, known: str, text: str) -> None:
    """The message names alias and key, the hint what to do."""
    with override_settings(LOOPAI=setting, ROOT_URLCONF=__name__):
        messages = run_checks(tags=["loopai"])
    [message] = [message for message in messages if message.id == known]
    assert text in message.msg
    assert message.hint


def test_a_transport_whose_library_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint is the command that installs it."""
    monkeypatch.setitem(sys.modules, "pyreqwest", None)
    with override_settings(LOOPAI={"default": {"TRANSPORT": "pyreqwest"}}, ROOT_URLCONF=__name__):
        found = {message.id: message.hint for message in run_checks(tags=["loopai"])}
    assert found["loopai.E004"] == "pip install pyreqwest"


def test_the_missing_library_of_checked_inputs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a transport."""
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    with override_settings(LOOPAI={"default": {"VALIDATE_INPUTS": True}}, ROOT_URLCONF=__name__):
        found = {message.id: message.hint for message in run_checks(tags=["loopai"])}
    assert "pip install jsonschema-rs" in str(found["loopai.E008"])


def test_a_key_in_plain_text_is_warned_of_with_debug_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not while DEBUG is on, and not where the environment gave it; the warning does not repeat the key."""
    message = found(API_KEY="sesame")["loopai.W002"]
    assert "API_KEY in plain text" in message.msg
    assert "LLM_API_KEY in plain text" in found(LLM_API_KEY="sesame")["loopai.W002"].msg
    assert "LOOPAI_API_KEY" in message.hint
    assert "sesame" not in f"{message.msg} {message.hint}"
    assert "WEBHOOK_SECRETS" in found(WEBHOOK_SECRETS=["sesame"])["loopai.W002"].msg
    with override_settings(DEBUG=True):
        assert "loopai.W002" not in found(API_KEY="sesame")
    monkeypatch.setenv("OUR_KEY", "sesame")
    monkeypatch.setenv("OUR_SECRETS", "open,sesame")
    assert found(API_KEY="sesame", WEBHOOK_SECRETS=["open", "sesame"]) == {}


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        ("loopai.example.com", True),
        ("8.8.8.8", True),
        ("[2606:4700::1111]", True),
        ("localhost:8080", False),
        ("loopai:8080", False),
        ("10.0.0.7", False),
        ("[::1]:8080", False),
        ("loopai.internal", False),
    ],
)
def test_http_to_a_foreign_host_is_warned_of(host: str, warned: bool) -> None:
    """This machine, private networks and names without a dot are near enough; https is right everywhere."""
    assert ("loopai.W003" in found(BASE_URL=f"http://{host}")) == warned
    assert "loopai.W003" not in found(BASE_URL=f"https://{host}")


def test_an_embedded_server_needs_no_address() -> None:
    """LOCAL is an answer to where the server is."""
    with override_settings(LOOPAI={"default": {"LOCAL": True}}, ROOT_URLCONF=__name__):
        assert run_checks(tags=["loopai"]) == []


def test_the_webhook_view_needs_secrets() -> None:
    """Included in the URLs, and no alias with secrets: it would refuse everything."""
    with override_settings(LOOPAI={"default": {"BASE_URL": "https://loopai.test"}}):
        [message] = run_checks(tags=["loopai"])
    assert (message.id, "WEBHOOK_SECRETS" in message.hint) == ("loopai.W005", True)


# The network


@pytest.mark.parametrize("arguments", [[], ["--deploy"], ["--tag", "loopai"], ["--deploy", "--tag", "loopai"]])
def test_no_check_asks_the_servers(arguments: list[str], project: Path, server: Any) -> None:
    """As typed in a shell; build machines without a network run it. `loopai_health` asks."""
    environ = {
        **os.environ,
        "PYTHONPATH": str(project),
        "DJANGO_SETTINGS_MODULE": "mailsite.settings",
        "MAILSITE_UPSTREAM": server.url,
    }
    command = [sys.executable, "-m", "django", "check", *arguments]
    subprocess.run(command, env=environ, capture_output=True, timeout=60, check=False)
    assert server.asked == []
