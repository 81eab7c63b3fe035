"""The task of `django.tasks` (Django 6, or its backport): its message holds no rows, only that there is work."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ....exceptions import ConfigurationError
from .pending import carry_out


def _tasks() -> Any:
    for name in ("django.tasks", "django_tasks"):
        try:
            return import_module(name)
        except ImportError:
            continue
    raise ConfigurationError("enrich: engine='tasks' needs Django 6, or its backport: pip install django-tasks")


def _carry_out_pending(using: str) -> None:
    carry_out(using)


# The backends find a task by the name of its function in this module.
_carry_out_pending.__name__ = _carry_out_pending.__qualname__ = "carry_out_pending"
carry_out_pending: Any = _tasks().task(_carry_out_pending)
