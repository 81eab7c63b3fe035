"""An open file of the caller's as a source of rows. It is read from its current position, and stays open."""

from __future__ import annotations

import inspect
from typing import Any, Optional

from ..._core.rowsets import refused
from .raw import MadeBytes


class LentFile(MadeBytes):
    """The bytes of a file that the caller has opened and will close."""

    def __init__(self, file: Any) -> None:
        self._file = file
        name = getattr(file, "name", None)
        self.path = name if isinstance(name, str) else None
        """The file's own path if it has one, from which the format is inferred."""
        self.called = self.path or f"the {type(file).__name__}"
        """Its name in errors."""

    def more(self, most: int) -> bytes:
        """See `MadeBytes`."""
        data: Optional[bytes] = self._file.read(most)
        if data is None:
            raise BlockingIOError("it is not opened for blocking reads")
        return data


def lent_file(rows: object) -> Optional[LentFile]:
    """Return `rows` as a file; `None` if it is not one. Raises `ValidationException` for a file without bytes."""
    read = getattr(rows, "read", None)
    if not callable(read) or isinstance(rows, type):
        return None
    kind = type(rows).__name__
    if inspect.iscoroutinefunction(read):
        raise refused(
            "rows", f"must be a file that is read without await, not a {kind}: for an upload pass upload.file"
        )
    try:
        nothing = read(0)
    except (OSError, TypeError, ValueError) as error:
        raise refused("rows", f"is a {kind} that cannot be read: {error}") from None
    if not isinstance(nothing, bytes):
        raise refused("rows", f"must be a file opened in binary mode, not a {kind}: open(path, 'rb')")
    return LentFile(rows)
