"""The site under ASGI."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mailsite.settings")
application = get_asgi_application()

from . import warm  # noqa: E402, F401  # after Django is set up
