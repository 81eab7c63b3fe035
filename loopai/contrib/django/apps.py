"""The application's configuration; nothing is connected and no client made when it gets ready."""

from __future__ import annotations

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
        from .checks import TAG, check_servers, check_settings, check_webhooks

        checks.register(check_settings, TAG)
        checks.register(check_webhooks, TAG)
        checks.register(check_servers, TAG, deploy=True)

        from .batches.requests import pass_on
        from .signals import batch_requested

        batch_requested.connect(pass_on, dispatch_uid="loopai.pass_on")
