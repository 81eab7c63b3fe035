"""`enrich_action`: an action of any `ModelAdmin` that runs the ticked rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from django.contrib import admin, messages
from django.db import connections, router, transaction
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html

from ....batch.engine.stopping import Stop
from ....batch.reporting.one_line import counted
from ..batches.leases import LEASE_SECONDS, owner_name
from ..clients import get_client
from . import outbox
from .carrying import Carried, carry
from .declarations import INLINE, Declaration, named
from .pending import enqueue

logger = logging.getLogger("loopai")

MOST_AT_ONCE = 200
"""Most rows that the action runs itself, for an inline declaration; `loopai_batch --pending` runs the rest."""

WITHIN_SECONDS = 20.0
"""Time limit of the action, in seconds."""


def enrich_action(name: str) -> Callable[[Any, Any, Any], None]:
    """Return an action for `ModelAdmin.actions` that enqueues the ticked rows for the declaration of that name.

    With "select all", all rows that search and filters show. For `engine="inline"` up to 200 rows are run at once, for
    20 seconds at most. It needs the change permission on the model, and says how many rows were done, queued or failed.
    """

    @admin.action(description=f"Run {name}", permissions=["change"])
    def run(modeladmin: Any, request: Any, queryset: Any) -> None:
        declaration = named(name)
        # An admin may call `.using()` in its `get_queryset`.
        using = queryset._db or router.db_for_write(declaration.model)
        queryset = queryset.using(using)
        number = enqueue(queryset, name)
        ids: list[str] = []
        if declaration.engine == INLINE and number <= MOST_AT_ONCE:
            pks = outbox.worth_it(declaration, queryset, using).values_list("pk", flat=True)[:MOST_AT_ONCE]
            ids = [outbox.id_of(declaration, outbox.key_of(declaration, pk)) for pk in pks]
        carried = Carried()
        if ids and connections[using].in_atomic_block:
            # Their outcome is only known after the response.
            transaction.on_commit(lambda: _logged(declaration, using, ids), using=using)
        elif ids:
            carried = _run(declaration, using, ids)
        _tell(modeladmin, request, name, number, carried)

    # Django identifies actions by the names of their functions.
    run.__name__ = f"loopai_enrich_{''.join(sign if sign.isalnum() else '_' for sign in name)}"
    return run


def _run(declaration: Declaration, using: str, ids: Sequence[str]) -> Carried:
    until = monotonic() + WITHIN_SECONDS
    total = Carried()
    client = get_client(declaration.alias)
    for start in range(0, len(ids), outbox.AT_ONCE):
        owner = owner_name()
        taken = outbox.take(using, declaration, owner, LEASE_SECONDS, ids[start : start + outbox.AT_ONCE])
        if taken:
            carried = carry(declaration, using, owner, taken, client, Stop(0.0), until=until)
            total.add(carried)
            if carried.late or carried.error is not None:
                break
    return total


def _logged(declaration: Declaration, using: str, ids: Sequence[str]) -> None:
    try:
        _run(declaration, using, ids)
    except Exception:  # the entries exist, and the response must not fail
        logger.exception("enrich %s: rows are left for `loopai_batch --pending`", declaration.name)


def _tell(modeladmin: Any, request: Any, name: str, number: int, carried: Carried) -> None:
    if not number:
        modeladmin.message_user(request, f"{name}: none of these rows has work to do.", messages.WARNING)
        return
    queued = max(0, number - carried.done - carried.failed)
    parts = [f"{carried.done:,} done"] if carried.done else []
    parts += [f"{queued:,} queued"] if queued else []
    parts += [f"{carried.failed:,} failed"] if carried.failed else []
    text = f"{name}: {counted(number, 'row')}: {', '.join(parts)}."
    if carried.error is not None:
        text += f" {carried.error}"
    try:
        url = reverse("admin:loopai_pendingrow_changelist", current_app=modeladmin.admin_site.name)
    except NoReverseMatch:
        url = ""
    level = messages.ERROR if carried.failed else messages.WARNING if carried.error else messages.SUCCESS
    link = format_html(' <a href="{}?declaration__exact={}">Pending rows</a>', url, name) if url else ""
    modeladmin.message_user(request, format_html("{}{}", text, link), level)
