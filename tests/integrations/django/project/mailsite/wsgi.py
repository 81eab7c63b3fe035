"""The site under WSGI."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mailsite.settings")
application = get_wsgi_application()

from . import warm  # noqa: E402, F401  # after Django is set up
