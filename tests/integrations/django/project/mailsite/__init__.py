"""The site that the tests of the Django integration run, in their process and under real servers."""

import os

if "MAILSITE_BROKER" in os.environ:
    from .queue import app as celery_app  # noqa: F401  # as Celery asks of a Django project
