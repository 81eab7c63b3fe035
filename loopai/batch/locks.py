"""File locks: held by one process until it releases them or dies, and never by its children."""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path
from typing import IO

from ..exceptions import ConfigurationError

_held: weakref.WeakSet[IO[bytes]] = weakref.WeakSet()


class AlreadyLocked(Exception):
    """Another process holds the lock, or another part of this one."""


def lock_file(path: Path, mode: int = 0o666) -> IO[bytes]:
    """Open a file, created if missing, and hold its lock until it is closed. A process that dies releases it.

    Raises `AlreadyLocked`, `OSError` if the file cannot be opened, and `ConfigurationError` if the system has no such
    locks.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        raise ConfigurationError(
            "a batch that can be resumed needs file locks that this system does not have: run it on Linux or macOS, or "
            "without output and journal"
        ) from None
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), mode)
        file = os.fdopen(descriptor, "r+b", 0)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise AlreadyLocked(path) from None
        # Between opening and locking, the file may have been replaced or removed.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                _held.add(file)
                return file
        file.close()


def _let_go_in_child() -> None:
    # A lock belongs to the open file, which a forked child shares: it would hold the lock after its parent died.
    for file in list(_held):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)
