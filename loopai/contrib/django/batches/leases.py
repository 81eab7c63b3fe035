"""Who is at a run: names of owners, and taking over from one that was killed. Leases themselves are the models'."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from uuid import uuid4

from django.utils import timezone

from ....exceptions import RunInProgressError
from ..models import BatchRun

LEASE_SECONDS = 30.0
"""How long a silent owner counts as alive: a page query or a write may take its time, a killed run should not."""

BEAT_SECONDS = 5.0
"""Seconds between heartbeats; who waits for a lease sees within these whether its owner lives."""

_LOOK_SECONDS = 0.5


def owner_name() -> str:
    """A name for this process: host and process, by which others on this host see that it was killed."""
    return f"{socket.gethostname()[:100]}:{os.getpid()}:{uuid4().hex[:12]}"


def was_killed(owner: str) -> bool:
    """Whether an owner is known to be dead. `False` also where nobody can tell, as on another host."""
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
    """Wait until nobody is at the run, at most until the lease of a killed owner is out.

    Raises `RunInProgressError` where the owner lives.
    """
    first = run.lease_until
    told = False
    while run.is_live():
        if was_killed(run.owner):
            # Only if it is still that owner's: another may have been as quick.
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
                say(f"Run {run.pk} has an owner that may be gone: waiting for a sign of it, at most {left:.0f} s.")
                told = True
            sleep(_LOOK_SECONDS)
        run.refresh_from_db()
