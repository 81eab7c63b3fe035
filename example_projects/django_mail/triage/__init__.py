"""The project: settings, URLs, and what servers and workers start."""

from contextlib import suppress

# Celery is optional here: without it batches run in the process of their command.
with suppress(ModuleNotFoundError):
    from .celery import app as celery_app  # noqa: F401  # Celery requires it in a Django project
