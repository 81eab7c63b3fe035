"""What a command's failure is to the shell: an exit code, and one line on stderr."""

from __future__ import annotations

from typing import Any, Optional

import typer

OK = 0
FAILED = 1
"""The operation failed: the program's error, something not found, an input refused."""
USAGE = 2
"""Usage or configuration; the code that shells and click use."""
UNREACHABLE = 4
"""No reply, or none in time."""
INTERRUPTED = 130
"""128 and SIGINT, as shells have it."""

# Typer has click within itself since 0.26 and depended on it before: either way its own exceptions lead there.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class Failed(Exception):
    """A command has failed; the message is its one line."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def usage_line(error: Any) -> str:
    """A usage error of Typer's as one line that says where help is."""
    context: Optional[typer.Context] = error.ctx
    path = context.command_path if context is not None else "loopai"
    return f"{error.format_message().rstrip('.')} (see: {path} --help)"


def exit_code_of(error: Exception) -> int:
    """The exit code for what a call of the client raised. Raises `error` again where it is none of ours."""
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
