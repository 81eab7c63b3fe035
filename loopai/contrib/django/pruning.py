"""Delete old runs, failed pending rows and handled events in small transactions, for `loopai_prune`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, Optional

from django.db import transaction
from django.db.models import Q

from ...exceptions import ConfigurationError
from .conf import aliases, config_of
from .models import BatchFailure, BatchPart, BatchRun, HandledEvent, PendingRow

AT_ONCE = 1_000
"""Most rows that one transaction deletes."""

State = BatchRun.State
_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def age_of(text: str) -> timedelta:
    """Read `30d`, `12h`, `90m` or `45s`. Raises `ConfigurationError`."""
    found = re.fullmatch(r"(\d{1,6})([dhms])", text.strip())
    if found is None:
        raise ConfigurationError(
            f"--older-than must be a number of days, hours, minutes or seconds (30d), not {text!r}"
        )
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def youngest_event() -> Optional[timedelta]:
    """Return the age up to which events are kept because deliveries may be repeated; `None` to keep all."""
    tolerances = [config_of(alias).webhook_tolerance for alias in aliases()]
    if any(tolerance is None for tolerance in tolerances):
        return None
    return timedelta(seconds=2 * max(tolerance for tolerance in tolerances if tolerance is not None))


class Pruning:
    """Return the rows of a database that are older than an age."""

    def __init__(self, using: str, now: datetime, age: timedelta, *, unfinished: bool) -> None:
        try:
            before = now - age
        except OverflowError:
            raise ConfigurationError("--older-than goes back beyond the year 1: pass a shorter age") from None
        over = [State.FINISHED, State.CANCELLED, *([State.STOPPED, State.INTERRUPTED] if unfinished else [])]
        # A run without an end time ended when it last worked.
        ended = Q(finished_at__lt=before) | Q(finished_at__isnull=True, created_at__lt=before)
        self._using = using
        self._runs = BatchRun.objects.using(using).filter(ended, state__in=over)
        self._failed = PendingRow.objects.using(using).filter(state=PendingRow.State.FAILED, due_at__lt=before)
        kept = youngest_event()
        events = HandledEvent.objects.using(using)
        self._events = events.none() if kept is None else events.filter(received_at__lt=now - max(age, kept))
        self.keeps_events = kept is None

    def count(self) -> dict[str, int]:
        """Return how many there are."""
        return {"batch runs": self._runs.count(), "failed pending rows": self._failed.count(),
                "handled events": self._events.count()}  # fmt: skip

    def delete(self) -> dict[str, int]:
        """Delete the rows; return how many there were."""
        runs = 0
        for pk in list(self._runs.values_list("pk", flat=True)):
            mine = {"run_id": pk}
            self._delete(BatchFailure.objects.using(self._using).filter(**mine))
            self._delete(BatchPart.objects.using(self._using).filter(**mine))
            with transaction.atomic(using=self._using):
                # Keep a run that is resumed meanwhile.
                runs += self._runs.filter(pk=pk).delete()[1].get(BatchRun._meta.label, 0)
        return {"batch runs": runs, "failed pending rows": self._delete(self._failed),
                "handled events": self._delete(self._events)}  # fmt: skip

    def _delete(self, rows: Any) -> int:
        number = 0
        while True:
            pks = list(rows.order_by().values_list("pk", flat=True)[:AT_ONCE])
            if not pks:
                return number
            with transaction.atomic(using=self._using):
                number += rows.filter(pk__in=pks).delete()[0]
            if len(pks) < AT_ONCE:
                return number
