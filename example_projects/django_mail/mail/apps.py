"""The application's configuration."""

from django.apps import AppConfig


class MailConfig(AppConfig):
    name = "mail"

    def ready(self) -> None:
        """Have the server's events heard."""
        from . import events  # noqa: F401  # connects its receivers
