"""For Celery's `autodiscover_tasks`: the tasks themselves are in `loopai.contrib.celery`."""

from ..celery import carry_out_pending, run_part, watch_run

__all__ = ["carry_out_pending", "run_part", "watch_run"]
