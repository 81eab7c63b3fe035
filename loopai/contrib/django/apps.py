"""The application's configuration. `ready` opens no connection and creates no client."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core import checks


class LoopaiConfig(AppConfig):
    """`loopai.contrib.django` under the label `loopai`."""

    name = "loopai.contrib.django"
    label = "loopai"
    verbose_name = "Loopai"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks."""
        from .checks import TAG, check_settings, check_webhooks
        from .enrichment.declarations import check_declarations
        from .signals import batch_requested

        checks.register(check_settings, TAG)
        checks.register(check_webhooks, TAG)
        checks.register(check_declarations, TAG)
        batch_requested.connect(_resume_in_workers, dispatch_uid="loopai.resume_in_workers")


def _resume_in_workers(sender: Any, run: Any, **_: Any) -> None:
    """Pass a run that the admin resumes to Celery workers; a run of the inline engine waits for its command."""
    if run.engine == "celery":
        from ..celery.tasks import go_on

        go_on(run)
