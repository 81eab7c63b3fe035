"""A Celery application for batches, on the broker and queue that a test names."""

import os

from celery import Celery

app = Celery("mailsite", broker=os.environ["MAILSITE_BROKER"])
app.conf.task_default_queue = os.environ["MAILSITE_QUEUE_NAME"]
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_connection_retry_on_startup = True
if os.environ["MAILSITE_BROKER"].startswith("redis"):
    # By default what a killed worker had fetched comes again after an hour.
    prefix = os.environ["MAILSITE_QUEUE_NAME"]
    app.conf.broker_transport_options = {"visibility_timeout": 30, "global_keyprefix": f"{prefix}:"}
app.autodiscover_tasks()
