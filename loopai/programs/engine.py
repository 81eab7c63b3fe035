"""The sandbox library for Python, `pydantic_monty`, made usable after a fork.

The library has one set of threads per process. A forked child inherits the library without these threads, and its
first call would hang; so a child loads its own copy of the compiled module. A child must not release what it inherited
either: that would remove the parent's workers from the event queue that both share.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from loopai.exceptions import ConfigurationError

__all__ = ["Inheritance", "engine", "keep_out_of_children", "require"]

# Process id → the library as that process uses it. The first entry is the process that may use it as imported.
_ENGINES: dict[int, ModuleType] = {}


class Inheritance(Protocol):
    """Objects that a forked child inherits and must neither use nor release."""

    def inherited(self) -> list[Any]:
        """The library's objects that are alive."""


_INHERITANCES: weakref.WeakSet[Inheritance] = weakref.WeakSet()


def require() -> ModuleType:
    """Import the library, which starts nothing yet. Raises `ConfigurationError` if it is not installed."""
    try:
        import pydantic_monty
    except ImportError as error:
        raise ConfigurationError(
            "running programs needs Python 3.10 or newer and pydantic-monty: pip install pydantic-monty"
        ) from error
    # The library imports this at its first request, if it is installed. A child that was forked in the middle
    # of that import, by another thread, would wait for its end forever.
    with contextlib.suppress(ImportError):
        importlib.import_module("opentelemetry.context")
    return pydantic_monty


def engine() -> ModuleType:
    """Return the library for this process, which will start its threads."""
    known = _ENGINES.get(os.getpid())
    if known is not None:
        return known
    module = require()
    if _ENGINES:
        module = _private_copy(module._monty.__file__)
    return _ENGINES.setdefault(os.getpid(), module)


def _private_copy(compiled: str) -> ModuleType:
    """Load the compiled module from another file, which gives it its own threads (7 ms)."""
    with tempfile.TemporaryDirectory(prefix="loopai-programs-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / Path(compiled).name
        shutil.copyfile(compiled, copy)
        spec = importlib.util.spec_from_file_location("loopai.programs._monty", copy)
        if spec is None or spec.loader is None:
            raise ImportError(f"{compiled} is not a module that Python can load")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def keep_out_of_children(owner: Inheritance) -> None:
    """Make forked children keep what `owner.inherited()` lists at the time of the fork."""
    _INHERITANCES.add(owner)


def _keep_for_ever() -> None:
    for owner in _INHERITANCES:
        for thing in owner.inherited():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_for_ever)
