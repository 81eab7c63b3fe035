"""The pytest plugin: fixtures over `loopai.testing`. What they give is not here.

It stands beside the package and imports it inside the fixtures: every pytest run where loopai is installed loads
this module, and a run that does not use loopai should not wait for it, nor one that measures its coverage miss its
first lines. In a test::

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
    """A Loopai in memory, new for each test, to be programmed: `loopai_fake.task("spam").returns(…)`.

    In a Django project it stands in for every alias: `get_client` and `get_async_client` give clients on it.
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
    """A `LoopaiClient` on `loopai_fake`, for any asynchronous test plugin: it holds nothing that must be closed."""
    return loopai_fake.async_client()


@pytest.fixture
def loopai_no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients made in this test make no pauses between attempts, unless made with `retry_waits=True`."""
    monkeypatch.setenv("LOOPAI_RETRY_WAITS", "0")


@pytest.fixture(scope="session")
def loopai_server() -> Iterator[Server]:
    """An embedded server on a free port of this machine, one for the whole run; clients take its `base_url`.

    Skips the test below Python 3.10. Raises `ConfigurationError` where what the server needs is not installed.
    """
    if sys.version_info < (3, 10):
        pytest.skip("the embedded server needs Python 3.10: its sandbox does")
    from loopai.local import running

    with running() as server:
        yield server
