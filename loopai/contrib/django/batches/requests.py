"""Requests of the admin (resume, retry) passed on to engines that start work by themselves."""

from __future__ import annotations

from typing import Any

from ..models import BatchRun


def pass_on(sender: type[BatchRun], run: BatchRun, **_: Any) -> None:
    """Receives `batch_requested`. A run of the inline engine waits for its command."""
    if run.engine == BatchRun.Engine.CELERY:
        from ...celery.tasks import go_on

        go_on(run)
