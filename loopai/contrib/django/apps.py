"""The application's configuration; nothing is connected and no client made when it gets ready."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks
from django.core.signals import setting_changed


class LoopaiConfig(AppConfig):
    """`loopai.contrib.django` under the label `loopai`."""

    name = "loopai.contrib.django"
    label = "loopai"
    verbose_name = "Loopai"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register checks and the reset of clients."""
        from .checks import TAG, check_servers, check_settings, check_webhooks
        from .clients import reset_on_change

        checks.register(check_settings, TAG)
        checks.register(check_webhooks, TAG)
        # Django runs what is tagged `database` only where a tag was asked for: a plain `check --deploy`, which build
        # machines run without network, leaves the servers alone.
        checks.register(check_servers, TAG, checks.Tags.database, deploy=True)
        setting_changed.connect(reset_on_change, dispatch_uid="loopai.reset_on_change")
