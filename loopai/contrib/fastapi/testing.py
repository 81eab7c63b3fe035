"""For tests of your application: a fake in the place of its Loopai clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI

from ...testing import FakeLoopai
from .dependencies import get_loopai_for, get_sync_loopai_for


@contextmanager
def override_loopai(app: FastAPI, fake: FakeLoopai, *aliases: str) -> Iterator[FakeLoopai]:
    """Have `fake` answer for the default alias and for `aliases`, whether the lifespan runs or not.

    Mounted applications have overrides of their own: give each its `override_loopai`.
    """
    client, sync_client = fake.async_client(), fake.client()
    before = dict(app.dependency_overrides)
    for alias in ("default", *aliases):
        overrides: dict[Any, Any] = {
            get_loopai_for(alias): lambda: client,
            get_sync_loopai_for(alias): lambda: sync_client,
        }
        app.dependency_overrides.update(overrides)
    try:
        yield fake
    finally:
        app.dependency_overrides.clear()
        app.dependency_overrides.update(before)
