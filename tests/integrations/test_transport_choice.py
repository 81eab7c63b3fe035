"""How a transport is chosen, and what is said where that cannot be had."""

from __future__ import annotations

import importlib.util
import ssl
import subprocess
import sys
from typing import Any

import pytest

from loopai import ConfigurationError, LoopaiClient, SyncLoopaiClient


@pytest.mark.parametrize("client", [LoopaiClient, SyncLoopaiClient])
@pytest.mark.parametrize("name", ["httpx2", "pyreqwest"])
def test_a_library_that_is_missing_is_named(client: Any, name: str, monkeypatch: Any) -> None:
    """A transport whose library is not installed says how to install just that library."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda each, *rest: None if each == name else found(each, *rest))
    with pytest.raises(ConfigurationError, match=f"pip install {name}$"):
        client(transport=name)


@pytest.mark.parametrize("client", [LoopaiClient, SyncLoopaiClient])
def test_an_unknown_name_is_refused_with_the_known_ones(client: Any) -> None:
    """A misspelt transport names those there are."""
    with pytest.raises(ConfigurationError, match="'httpx', 'httpx2', 'pyreqwest'"):
        client(transport="htpx")


@pytest.mark.parametrize("name", ["httpx", "httpx2", "pyreqwest"])
def test_only_the_chosen_library_is_imported(name: str) -> None:
    """Neither what happens to be installed nor the default is imported where another transport is chosen."""
    pytest.importorskip(name)
    code = (
        "import sys, loopai\n"
        "libraries = {'httpx', 'httpx2', 'pyreqwest'}\n"
        "assert not libraries & sys.modules.keys(), libraries & sys.modules.keys()\n"
        f"loopai.SyncLoopaiClient(transport={name!r})\n"
        f"assert libraries & sys.modules.keys() == {{{name!r}}}, libraries & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("client", [LoopaiClient, SyncLoopaiClient])
def test_pyreqwest_refuses_a_context_it_cannot_use(client: Any) -> None:
    """Its TLS is not Python's: an SSLContext is refused with what to give instead, never silently left out."""
    pytest.importorskip("pyreqwest")
    with pytest.raises(
        ConfigurationError, match="set SSL_CERT_FILE, which adds authorities to the machine's, or use transport='httpx'"
    ):
        client("https://loopai.example", transport="pyreqwest", verify=ssl.create_default_context())
