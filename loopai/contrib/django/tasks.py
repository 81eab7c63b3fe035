"""Where Celery's `autodiscover_tasks` looks: the tasks themselves are in `loopai.contrib.celery`."""

from ..celery import run_part, watch_run

__all__ = ["run_part", "watch_run"]
