"""What holds for every test, whatever its folder."""

from __future__ import annotations

import asyncio


def pytest_sessionstart() -> None:
    """Have no event loop before a test makes one.

    pytest-asyncio's last release for Python 3.9 asks for the current loop before each asynchronous test. Where none was
    ever set, asyncio makes one then, which nobody closes and whose warning would fail whichever test comes next.
    """
    asyncio.set_event_loop(None)
