"""Exit codes of the commands, the same as the command line's, and the `CommandError` for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from ...exceptions import AuthenticationException, ConfigurationError, ConnectionException, LoopaiException
from ...option_names import in_shell, spelled

FAILED = 1
"""Failure: failed rows, an unhealthy server, a refused request."""
USAGE = 2
"""Wrong usage or configuration."""
UNREACHABLE = 4
"""A server that does not answer."""
DATABASE_FAILED = 5
"""The database, or Celery's workers, failed again and again; `--resume` continues."""


def code_of(error: Exception) -> int:
    """Return the exit code for an error."""
    if isinstance(error, ConnectionException):
        return UNREACHABLE
    # A refused key is a wrong setting.
    wrong = (AuthenticationException, ConfigurationError, ImproperlyConfigured)
    return USAGE if isinstance(error, wrong) else FAILED


@contextmanager
def told() -> Iterator[None]:
    """Convert the client's exceptions to a `CommandError` with an exit code."""
    try:
        yield
    except (LoopaiException, ConfigurationError, ImproperlyConfigured) as error:
        raise CommandError(spelled(error, in_shell), returncode=code_of(error)) from error
