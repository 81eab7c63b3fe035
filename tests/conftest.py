"""What holds for every test, whatever its folder."""

from __future__ import annotations

import asyncio
import signal

import pytest

# Where the tests run in the background of a script, Ctrl-C is ignored, and whatever they start would ignore it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionstart() -> None:
    """Have no event loop before a test makes one.

    pytest-asyncio's last release for Python 3.9 asks for the current loop before each asynchronous test. Where none was
    ever set, asyncio makes one then, which nobody closes and whose warning would fail whichever test comes next.
    """
    asyncio.set_event_loop(None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where a published server asks for its programs, for the contract suite; see CONTRIBUTING.md."""
    parser.addoption(
        "--generator-port", type=int, help="serve programs to the published server at LOOPAI_CONTRACT_URL on this port"
    )


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument: what is compressed holds the time, and all processes collect the same names."""
    return argname if isinstance(val, bytes) and not val.isascii() else None
