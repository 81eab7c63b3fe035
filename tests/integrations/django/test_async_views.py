"""Async views under WSGI: a new event loop for each request."""

from __future__ import annotations

import gc
import threading
import warnings
from typing import Any, Callable

import pytest
from django.test import Client, RequestFactory, override_settings
from mailsite.views import acheck

TASK = {"spam": "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"}


@pytest.mark.slow
def test_1000_calls_leave_no_socket_thread_or_warning(server: Any, sockets: Callable[[], int]) -> None:
    """Each request has a loop of its own, and its connection ends with it."""
    threads = threading.active_count()
    with override_settings(LOOPAI={"default": {"BASE_URL": server.url, "TASKS": TASK}}), warnings.catch_warnings():
        warnings.simplefilter("error")
        before, client = sockets(), Client()
        for turn in range(1000):
            answer = client.get("/acheck/", {"text": str(turn)})
            assert answer.json()["output"] == {"text": str(turn)}
        gc.collect()
        server.wait_until(lambda: server.open == 0)
        assert sockets() <= before
    assert threading.active_count() <= threads
    assert server.accepted == 1000


async def test_calls_of_one_loop_share_connections(server: Any) -> None:
    """Under ASGI there is one loop, and one connection serves one request after the other."""
    with override_settings(LOOPAI={"default": {"BASE_URL": server.url, "TASKS": TASK}}):
        for turn in range(20):
            answer = await acheck(RequestFactory().get("/", {"text": str(turn)}))
            assert answer.status_code == 200
    assert server.accepted == 1
