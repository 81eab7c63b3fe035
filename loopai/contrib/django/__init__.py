"""Django: clients configured in `settings.LOOPAI`, batches, management commands, checks, admin, webhook signals.

from loopai.contrib.django import get_client

get_client().execute("spam", {"subject": …})
"""

try:
    import django as _django
except ImportError:
    from ...exceptions import ConfigurationError as _ConfigurationError

    raise _ConfigurationError("loopai.contrib.django needs Django: pip install django") from None

from typing import TYPE_CHECKING, Any

from .clients import close_clients, get_async_client, get_client

if TYPE_CHECKING:
    from .batches.from_python import BatchStopped, arun_queryset, run_queryset
    from .enrichment.admin_action import enrich_action
    from .enrichment.enriching import enrich
    from .enrichment.pending import enqueue
    from .problems import problem_response

del _django

__all__ = [
    "BatchStopped",
    "arun_queryset",
    "close_clients",
    "enqueue",
    "enrich",
    "enrich_action",
    "get_async_client",
    "get_client",
    "problem_response",
    "run_queryset",
]

# Modules with models are imported at first use: this package is imported before Django loads models.
_LATER = {
    "BatchStopped": ".batches.from_python",
    "arun_queryset": ".batches.from_python",
    "enqueue": ".enrichment.pending",
    "enrich": ".enrichment.enriching",
    "enrich_action": ".enrichment.admin_action",
    "problem_response": ".problems",
    "run_queryset": ".batches.from_python",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATER[name], __name__), name)
