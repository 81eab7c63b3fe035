"""The distributed engine of `loopai_batch`: Celery workers run the parts of a batch. Needs Django and Celery.

from loopai.contrib.celery import start_batch

run = start_batch("spam", "mail.Message", save_to=["label"])

A message holds the ids of a run and a part, never rows. Delivery is at least once, the effect exactly once: a part's
rows, its counts and its completion are one transaction, which only the part's owner can commit.
"""

from ...exceptions import ConfigurationError

try:
    import celery as _celery  # noqa: F401  # fails here if Celery is not installed
except ImportError:
    raise ConfigurationError("loopai.contrib.celery needs Celery: pip install celery") from None

from ..django.batches.options import QuerysetOptions
from .tasks import carry_out_pending, run_part, start_batch, watch_run

__all__ = ["QuerysetOptions", "carry_out_pending", "run_part", "start_batch", "watch_run"]
