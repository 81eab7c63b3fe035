"""Bring what was written to the disk, so that it outlives a crash: files, names in folders, whole replacements."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import IO


def sync_file(file: IO[bytes]) -> None:
    """Sync what was written to a file; a pipe or terminal has nothing to sync. Raises `OSError`."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EROFS}:
            raise


def flush_and_sync(file: IO[bytes]) -> None:
    """Write out a file's buffer, and sync the file. Raises `OSError`."""
    file.flush()
    sync_file(file)


def sync_folder(path: Path) -> None:
    """Sync the names in a folder, where the system allows it: without that, a new file may be gone after a crash."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_file(made: Path, path: Path) -> None:
    """Put a finished file in the place of another, whole or not at all. Raises `OSError`."""
    with open(made, "rb+") as file:
        sync_file(file)
    os.replace(made, path)
    sync_folder(path.parent)
