"""Which process works on a run: names of owners, and taking over from a killed one. Leases are in the models."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable
from uuid import uuid4

from django.utils import timezone

from ....exceptions import RunInProgressError
from ..models import BatchRun

LEASE_SECONDS = 30.0
"""Seconds without a heartbeat after which an owner counts as dead: queries may be slow, killed runs must not wait."""

BEAT_SECONDS = 5.0
"""Seconds between heartbeats, and so how long it takes to learn whether the owner is alive."""

_LOOK_SECONDS = 0.5


def owner_name() -> str:
    """Return a name made of host and process id, so that other processes on this host can detect that it was killed."""
    return f"{socket.gethostname()[:100]}:{os.getpid()}:{uuid4().hex[:12]}"


def person() -> str:
    """Return who starts a run here: the system's user and the host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = ""
    return f"{user or 'unknown'}@{socket.gethostname()}"[:200]


def was_killed(owner: str) -> bool:
    """Return whether an owner is known to be dead. `False` if that is unknown, as on another host."""
    host, _, rest = owner.rpartition(":")[0].rpartition(":")
    if host != socket.gethostname()[:100] or not rest.isdecimal() or int(rest) == os.getpid():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def wait_until_free(run: BatchRun, say: Callable[[str], None], sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait until no process works on the run, at most until the lease of a killed owner expires.

    Raises `RunInProgressError` if the owner is alive.
    """
    first = run.lease_until
    told = False
    while run.is_live():
        if was_killed(run.owner):
            # Only if it still belongs to that owner: another process may have been faster.
            dead = BatchRun.objects.using(run.database).filter(pk=run.pk, state=run.state, owner=run.owner)
            dead.update(lease_until=None)
        elif run.lease_until != first:
            raise RunInProgressError(
                "run {number} is in progress ({owner}): wait for it, or cancel it in the admin",
                number=run.pk, owner=run.owner,
            )  # fmt: skip
        else:
            if not told and first is not None:
                left = (first - timezone.now()).total_seconds()
                say(f"Run {run.pk} may have lost its worker; waiting up to {left:.0f} s for a heartbeat.")
                told = True
            sleep(_LOOK_SECONDS)
        run.refresh_from_db()
