"""Sentry, the real one: failed calls become events, a caller's own mistakes do not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

APPLICATION = """
import sentry_sdk
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sentry_sdk.integrations.logging import LoggingIntegration

from loopai.contrib.fastapi import LoopaiDep, LoopaiLifespan, batch_router, install_error_handlers
from loopai.testing import FakeLoopai

events = []

class Kept(sentry_sdk.transport.Transport):
    def capture_envelope(self, envelope):
        events.append(envelope.get_event())

sentry_sdk.init(
    dsn="http://key@sentry.test/1", transport=Kept, default_integrations=False, integrations=[LoggingIntegration()]
)
fake = FakeLoopai()
app = FastAPI(lifespan=LoopaiLifespan(fake))
install_error_handlers(app)
app.include_router(batch_router("spam"))

@app.post("/judge")
async def judge(ai: LoopaiDep, text: str) -> object:
    return (await ai.execute("spam", text)).output

with TestClient(app, raise_server_exceptions=False) as client:
    assert client.post("/batch", content=b"", headers={"Content-Type": "text/csv"}).status_code == 422
    assert client.post("/judge").status_code == 422
    assert events == [], "nobody has to be woken for what a caller did wrong"
    fake.task("spam").returns(1).raises(401, message="the key is refused")
    for path, options in (("/judge?text=a", {}), ("/batch", {"json": [{"text": "a"}]})):
        events.clear()
        assert client.post(path, **options).status_code == 502
        (event,) = events
        assert "AuthenticationException" in {value["type"] for value in event["exception"]["values"]}
        assert event["level"] == "error"
"""


@pytest.mark.skipif(importlib.util.find_spec("sentry_sdk") is None, reason="sentry-sdk is not installed")
def test_a_failure_of_the_server_is_an_event_with_its_exception() -> None:
    """In a process of its own, as Sentry imports eventlet and changes what is there."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", APPLICATION], capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
