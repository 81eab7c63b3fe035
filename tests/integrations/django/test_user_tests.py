"""Tests of a user's project, run as users run them: pytest with pytest-django, and Django's own runner."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from loopai.contrib.django import get_async_client, get_client, testing
from loopai.contrib.django.testing import override_loopai
from loopai.testing import FakeLoopai

SETTINGS = """
SECRET_KEY = "a test's"
ROOT_URLCONF = "test_project"
USE_TZ = True
DATABASES = {}
INSTALLED_APPS = ["loopai.contrib.django"]
LOOPAI = {"default": {"BASE_URL": "https://loopai.example.test/below/a/proxy", "API_KEY": "k"}, "other": {}}
"""


def examples() -> list[str]:
    """The examples of the module's docstring, in their order."""
    assert testing.__doc__ is not None
    blocks = testing.__doc__.split("::\n")[1:]
    return [
        textwrap.dedent("\n".join(line for line in block.splitlines() if line[:1] in {"", " "})) for block in blocks
    ]


@pytest.fixture
def user(tmp_path: Path) -> Any:
    """Runs a module of a user's project in a process of its own."""
    (tmp_path / "settings.py").write_text(SETTINGS)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n"
    )

    def run(source: str, *command: str) -> str:
        (tmp_path / "test_project.py").write_text(source)
        environ = {"DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.mark.slow
def test_the_example_for_pytest_passes(user: Any) -> None:
    """As shown: the fixture alone puts the fake in the place of every alias, for sync and async views."""
    assert "1 passed" in user(examples()[0], "pytest", "-q", "-p", "no:cacheprovider", "test_project.py")


def test_the_example_for_django_s_runner_passes(user: Any) -> None:
    """As shown: a decorated test case, async tests in it, and another fake for one alias."""
    source = "urlpatterns = []\n" + examples()[1]
    assert "Ran 3 tests" in user(source, "django", "test", "test_project")


def test_each_use_without_a_fake_has_a_new_one() -> None:
    """What one test programmed, the next does not see; afterwards the real client is back, and open."""
    real = get_client()
    with override_loopai() as first:
        first.task("spam").returns(1)
        assert get_client().execute("spam", {}).output == 1
    with override_loopai() as second:
        assert second is not first
        assert second.requests == []
    assert get_client() is real
    assert not real._closed


def test_a_fake_for_one_alias_leaves_the_others_alone() -> None:
    """Aliases may have fakes of their own, inside one for all."""
    every, other = FakeLoopai(), FakeLoopai()
    every.task("spam").returns("every")
    other.task("spam").returns("other")
    with override_loopai(every), override_loopai(other, "other"):
        assert get_client().execute("spam", {}).output == "every"
        assert get_client("other").execute("spam", {}).output == "other"
        assert asyncio.run(get_async_client("other").execute("spam", {})).output == "other"
    with override_loopai(other, "other"):
        assert get_client().config.transport == "httpx"


def test_settings_still_count_under_a_fake() -> None:
    """Options of the alias are kept, those changed meanwhile too; only pauses are left out."""
    setting = {"default": {"TRANSPORT": "httpx", "MAX_RETRIES": 2, "RAISE_ON_ERROR": False}}
    with override_loopai() as fake:
        fake.task("spam").fails("no")
        with override_settings(LOOPAI=setting):
            assert get_client().execute("spam", {}).error_message == "no"
            fake.rate_limits(retry_after=100)
            with pytest.raises(Exception, match="429"):
                get_client().execute("spam", {})
            assert len(fake.requests) == 1 + 1 + 3  # the look-up before the first execution
    assert get_client().config.max_retries == 0  # the settings of this suite


def test_settings_changed_inside_count_afterwards() -> None:
    """A client from before is not given back where its settings are gone."""
    before = get_client()
    changed = override_settings(LOOPAI={"default": {"BASE_URL": "https://changed.test"}})
    with override_loopai():
        changed.enable()
    try:
        assert get_client() is not before
        assert get_client().base_url == "https://changed.test"
    finally:
        changed.disable()


def test_an_embedded_server_is_not_started_under_a_fake() -> None:
    """LOCAL in the settings, and a fake in the test."""
    with override_settings(LOOPAI={"default": {"LOCAL": True}}), override_loopai() as fake:
        fake.task("spam").returns("fake")
        assert get_client().execute("spam", {}).output == "fake"


def test_a_decorated_function_gets_the_fake() -> None:
    """As an argument of the name asked for; a new one at each call."""

    @override_loopai(kwarg_name="fake")
    def asks(text: str, fake: FakeLoopai) -> Any:
        fake.task("spam").returns(text)
        return get_client().execute("spam", {}).output, len(fake.calls)

    @override_loopai(kwarg_name="fake")
    async def asks_asynchronously(text: str, fake: FakeLoopai) -> Any:
        fake.task("spam").returns(text)
        return (await get_async_client("other").execute("spam", {})).output, len(fake.calls)

    assert [asks("a"), asks("b")] == [("a", 1), ("b", 1)]
    assert asyncio.run(asks_asynchronously("c")) == ("c", 1)
