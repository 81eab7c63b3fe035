"""A command's failure: an exit code, and one line on stderr."""

from __future__ import annotations

from typing import Any, Optional

import typer

OK = 0
FAILED = 1
"""The operation failed: an error of the program, something not found, a rejected input."""
USAGE = 2
"""Usage or configuration; the same code as shells and click."""
UNREACHABLE = 4
"""No reply, or none in time."""
INTERRUPTED = 130
"""128 + SIGINT, as in shells."""

# Typer includes click since 0.26 and depended on it before: its exceptions' base class works for both.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class Failed(Exception):
    """A command failed. The message is its line on stderr."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def usage_line(error: Any) -> str:
    """Return a usage error of Typer as one line that says where to find help."""
    context: Optional[typer.Context] = error.ctx
    path = context.command_path if context is not None else "loopai"
    return f"{error.format_message().rstrip('.')} (see: {path} --help)"


def exit_code_of(error: Exception) -> int:
    """Return the exit code for an exception of the client. Raises `error` again if it is not one of ours."""
    from ..exceptions import ConfigurationError, ConnectionException, LoopaiException

    if isinstance(error, Failed):
        return error.exit_code
    if isinstance(error, ConfigurationError):
        return USAGE
    if isinstance(error, ConnectionException):
        return UNREACHABLE
    if isinstance(error, LoopaiException):
        return FAILED
    raise error
