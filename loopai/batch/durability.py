"""Sync files and folders to the disk, so that they survive a crash, and replace files atomically."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import IO


def sync_file(file: IO[bytes]) -> None:
    """Sync a file to the disk. Does nothing for pipes and terminals. Raises `OSError`."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EROFS}:
            raise


def flush_and_sync(file: IO[bytes]) -> None:
    """Flush a file's buffer and sync the file. Raises `OSError`."""
    file.flush()
    sync_file(file)


def sync_folder(path: Path) -> None:
    """Sync a folder's entries, if the system can: otherwise a new file may be lost in a crash."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_file(made: Path, path: Path) -> None:
    """Replace a file by a finished one, atomically. Raises `OSError`."""
    with open(made, "rb+") as file:
        sync_file(file)
    os.replace(made, path)
    sync_folder(path.parent)
