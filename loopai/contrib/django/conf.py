"""`settings.LOOPAI`: aliases as in CACHES, every key through the core's one table of options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from ...config import OPTIONS, Config, from_settings, resolve
from ...exceptions import ConfigurationError

DEFAULT_ALIAS = "default"


def aliases() -> list[str]:
    """The aliases of `settings.LOOPAI`; without the setting, the default one, configured by environment alone."""
    return list(_setting())


def _setting() -> Mapping[str, Mapping[str, Any]]:
    found = getattr(settings, "LOOPAI", None)
    if found is None:
        return {DEFAULT_ALIAS: {}}
    if not isinstance(found, Mapping) or not all(isinstance(alias, Mapping) for alias in found.values()):
        raise ImproperlyConfigured(
            'LOOPAI must map aliases to their options, as CACHES does: LOOPAI = {"default": {"BASE_URL": "https://…"}}'
        )
    if DEFAULT_ALIAS not in found:
        raise ImproperlyConfigured('LOOPAI has no "default" alias: add one, LOOPAI = {"default": {…}, …}')
    return found


def environment(alias: str) -> dict[str, str]:
    """The environment's `LOOPAI_…` variables for `alias`, under the names of the default one.

    Those of another alias carry its name (`LOOPAI_OTHER_API_KEY`): the key of one server is never sent to another.
    """
    prefix = "LOOPAI_" if alias == DEFAULT_ALIAS else f"LOOPAI_{alias.upper().replace('-', '_')}_"
    found = {}
    for option in OPTIONS:
        value = os.environ.get(prefix + option.argument.upper())
        if value:
            found[option.environment] = value
    return found


def arguments_of(alias: str) -> dict[str, Any]:
    """What `settings.LOOPAI[alias]` says, as arguments. Raises `ImproperlyConfigured` naming alias and key."""
    known = _setting()
    if alias not in known:
        raise ImproperlyConfigured(f"LOOPAI has no alias {alias!r}: it has {', '.join(sorted(known))}")
    try:
        return from_settings(known[alias], f"LOOPAI[{alias!r}]")
    except ConfigurationError as error:
        raise ImproperlyConfigured(str(error)) from None


def config_of(alias: str) -> Config:
    """The configuration of `alias`: settings before environment before default. Raises `ImproperlyConfigured`."""
    arguments = arguments_of(alias)
    try:
        return resolve(arguments, environment(alias))
    except ConfigurationError as error:
        raise ImproperlyConfigured(f"LOOPAI[{alias!r}]: {error}") from None
