"""Django: clients configured in `settings.LOOPAI`, management commands, checks, admin, webhook signals.

from loopai.contrib.django import get_client

get_client().execute("spam", {"subject": …})
"""

try:
    import django as _django
except ImportError:
    from ...exceptions import ConfigurationError as _ConfigurationError

    raise _ConfigurationError("loopai.contrib.django needs Django: pip install django") from None

from .clients import close_clients, get_async_client, get_client

del _django

__all__ = ["close_clients", "get_async_client", "get_client"]
