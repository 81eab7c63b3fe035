"""The router of Django's own example of several databases: reads from a replica, writes to the primary."""

from typing import Any


class PrimaryReplica:
    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db != "replica"
