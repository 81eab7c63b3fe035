"""The pytest plugin: fixtures built on `loopai.testing`.

It is outside the package and imports it inside the fixtures. Every pytest run with loopai installed loads this module:
a run that does not use loopai should not wait for the import, and coverage must not miss the package's first lines.
In a test::

    def shop(client, text):
        return "refused" if client.execute("spam", {"text": text}).output == {"label": "spam"} else "taken"

    def test_refuses_spam(loopai_fake, loopai_client):
        loopai_fake.task("spam").returns({"label": "spam"})
        assert shop(loopai_client, "Claim your prize") == "refused"
        assert loopai_fake.task("spam").inputs == [{"text": "Claim your prize"}]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from loopai import LoopaiClient, SyncLoopaiClient
    from loopai.local.serving import Server
    from loopai.testing import FakeLoopai


@pytest.fixture
def loopai_fake() -> Iterator[FakeLoopai]:
    """An in-memory Loopai, new for each test; program it with `loopai_fake.task("spam").returns(…)`.

    In a Django project it replaces every alias: `get_client` and `get_async_client` return clients on it.
    """
    from loopai.testing import FakeLoopai

    fake = FakeLoopai()
    if "loopai.contrib.django" in sys.modules:
        from loopai.contrib.django.clients import standing_in

        with standing_in(None, fake):
            yield fake
    else:
        yield fake


@pytest.fixture
def loopai_client(loopai_fake: FakeLoopai) -> Iterator[SyncLoopaiClient]:
    """A `SyncLoopaiClient` on `loopai_fake`."""
    with loopai_fake.client() as client:
        yield client


@pytest.fixture
def loopai_async_client(loopai_fake: FakeLoopai) -> LoopaiClient:
    """A `LoopaiClient` on `loopai_fake`, for any asynchronous test plugin; it need not be closed."""
    return loopai_fake.async_client()


@pytest.fixture
def loopai_no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the pauses between attempts for clients created in this test, unless they have `retry_waits=True`."""
    monkeypatch.setenv("LOOPAI_RETRY_WAITS", "0")


@pytest.fixture(scope="session")
def loopai_server() -> Iterator[Server]:
    """An embedded server on a free port of this machine, one for the whole run; pass its `base_url` to clients.

    Skips the test below Python 3.10. Raises `ConfigurationError` if a library that the server needs is missing.
    """
    if sys.version_info < (3, 10):
        pytest.skip("the embedded server needs Python 3.10: its sandbox does")
    from loopai.local import running

    with running() as server:
        yield server
