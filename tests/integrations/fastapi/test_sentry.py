"""Sentry, the real one: failed calls become events, a caller's own mistakes do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from loopai.contrib.fastapi import LoopaiDep, LoopaiLifespan, batch_router, install_error_handlers
from loopai.testing import FakeLoopai

pytestmark = pytest.mark.slow

sentry_sdk = pytest.importorskip("sentry_sdk")
pytest.importorskip("sentry_sdk.integrations.logging")


@pytest.fixture
def events() -> Iterator[list[Any]]:
    """What would have been sent."""
    sent: list[Any] = []

    class Kept(sentry_sdk.transport.Transport):  # type: ignore[misc]  # there may be no such library
        def capture_envelope(self, envelope: Any) -> None:
            sent.append(envelope.get_event())

    # The others change Starlette, threads and more for all tests of this process.
    heard = {"default_integrations": False, "integrations": [sentry_sdk.integrations.logging.LoggingIntegration()]}
    sentry_sdk.init(dsn="http://key@sentry.test/1", transport=Kept, **heard)
    yield sent
    sentry_sdk.init()


def served(fake: FakeLoopai) -> TestClient:
    app = FastAPI(lifespan=LoopaiLifespan(fake))
    install_error_handlers(app)
    app.include_router(batch_router("spam"))

    @app.post("/judge")
    async def judge(ai: LoopaiDep, text: str) -> Any:
        return (await ai.execute("spam", text)).output

    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize(("path", "options"), [("/judge?text=a", {}), ("/batch", {"json": [{"text": "a"}]})])
def test_a_failure_of_the_server_is_an_event(path: str, options: dict[str, Any], events: list[Any]) -> None:
    """One, with the exception and where it was raised."""
    fake = FakeLoopai()
    task = fake.task("spam").returns(1)
    task.raises(401, message="the key is refused")
    with served(fake) as client:
        assert client.post(path, **options).status_code == 502
    (event,) = events
    assert "AuthenticationException" in {value["type"] for value in event["exception"]["values"]}
    assert event["level"] == "error"


def test_what_the_caller_did_wrong_is_none(events: list[Any]) -> None:
    """It is answered 4xx, and nobody has to be woken for it."""
    with served(FakeLoopai()) as client:
        assert client.post("/batch", content=b"", headers={"Content-Type": "text/csv"}).status_code == 422
        assert client.post("/judge").status_code == 422
    assert events == []
