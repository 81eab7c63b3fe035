"""The sandbox library for Python, `pydantic_monty`, in a form that works in this process, also after a fork.

The library keeps one set of threads for the whole process. A forked child inherits the library without those
threads, and its first call would wait for ever; so a child gets a copy of the compiled module of its own. Nor
may a child drop what it inherited: that would take the parent's workers out of the event queue both share.
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
    """What a forked child would inherit and must neither use nor drop."""

    def inherited(self) -> list[Any]:
        """The library's objects that are alive."""


_INHERITANCES: weakref.WeakSet[Inheritance] = weakref.WeakSet()


def require() -> ModuleType:
    """Import the library, which starts nothing yet. Raises `ConfigurationError` where it is not installed."""
    try:
        import pydantic_monty
    except ImportError as error:
        raise ConfigurationError(
            "running programs needs Python 3.10 or newer and pydantic-monty: pip install pydantic-monty"
        ) from error
    # The library asks for this at its first request, where it is installed. A child that was forked in the middle
    # of that import, by another thread, would wait for its end for ever.
    with contextlib.suppress(ImportError):
        importlib.import_module("opentelemetry.context")
    return pydantic_monty


def engine() -> ModuleType:
    """The library for this process, which is now expected to start its threads."""
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
    """From now on, children that this process forks never drop what `owner.inherited()` lists at that moment."""
    _INHERITANCES.add(owner)


def _keep_for_ever() -> None:
    for owner in _INHERITANCES:
        for thing in owner.inherited():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_for_ever)
