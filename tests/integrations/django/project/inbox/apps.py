"""The application; `MAILSITE_ENRICH` has the options of a declaration over `Mail`, as JSON."""

import json
import os

from django.apps import AppConfig


class InboxConfig(AppConfig):
    default_auto_field = "django.db.models.BigAutoField"
    name = "inbox"

    def ready(self) -> None:
        if "MAILSITE_ENRICH" in os.environ:
            from loopai.contrib.django import enrich

            options = {"mapping": ["subject=subject"], "save_to": ["score"], "name": "scores"}
            enrich(self.get_model("Mail"), "spam", **options, **json.loads(os.environ["MAILSITE_ENRICH"]))
