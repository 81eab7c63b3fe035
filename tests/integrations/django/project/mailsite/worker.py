"""A Celery application whose tasks ask a server."""

import asyncio
import os

import django
from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mailsite.settings")
django.setup()

from loopai.contrib.django import get_async_client, get_client  # noqa: E402  # after Django is set up

from . import warm  # noqa: E402

folder = os.environ["MAILSITE_QUEUE"]
app = Celery("mailsite", broker="filesystem://", backend=f"file://{folder}/results")
app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/messages",
    "data_folder_out": f"{folder}/messages",
    "control_folder": f"{folder}/control",
}


@app.task
def check(text: str) -> list[object]:
    """What the server makes of a text, by both clients, and the process that asked."""
    output = get_client().execute("spam", {"text": text}).output
    result = asyncio.run(get_async_client().execute("spam", {"text": text}))
    return [output, result.output, os.getpid(), warm.WARMED_IN]
