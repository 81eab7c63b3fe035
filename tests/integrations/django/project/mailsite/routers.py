"""Routers: that of Django's own example, which reads from a replica and writes to the primary, and one by model."""

from typing import Any


class PrimaryReplica:
    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db != "replica"


class MailElsewhere:
    """The inbox's models are in `other`; what has none is in `default`."""

    def db_for_read(self, model: Any, **hints: Any) -> Any:
        return "other" if model._meta.app_label == "inbox" else None

    db_for_write = db_for_read
