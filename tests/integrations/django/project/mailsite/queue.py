"""A Celery application for batches, on the broker and queue that a test names."""

import os

from celery import Celery

app = Celery("mailsite", broker=os.environ["MAILSITE_BROKER"])
app.conf.task_default_queue = os.environ["MAILSITE_QUEUE_NAME"]
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_connection_retry_on_startup = True
app.conf.broker_transport_options = {} if "amqp" in os.environ["MAILSITE_BROKER"] else {"visibility_timeout": 30}
app.autodiscover_tasks()
