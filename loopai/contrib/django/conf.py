"""`settings.LOOPAI`: aliases as in CACHES, with the keys of the core's table of options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from ...config import OPTIONS, Config, from_settings, resolve
from ...exceptions import ConfigurationError

DEFAULT_ALIAS = "default"


def aliases() -> list[str]:
    """Return the aliases of `settings.LOOPAI`; without the setting, the default one, configured by the environment."""
    return list(_setting())


def _setting() -> Mapping[str, Mapping[str, Any]]:
    by_alias = getattr(settings, "LOOPAI", None)
    if by_alias is None:
        return {DEFAULT_ALIAS: {}}
    if not isinstance(by_alias, Mapping) or not all(isinstance(alias, Mapping) for alias in by_alias.values()):
        raise ImproperlyConfigured(
            'LOOPAI must map aliases to their options, as CACHES does: LOOPAI = {"default": {"BASE_URL": "https://…"}}'
        )
    if DEFAULT_ALIAS not in by_alias:
        raise ImproperlyConfigured('LOOPAI has no "default" alias: add one, LOOPAI = {"default": {…}, …}')
    return by_alias


def _prefix(alias: str) -> str:
    """Return the prefix of the alias's environment variables.

    Those of other aliases than the default contain the name (`LOOPAI_OTHER_API_KEY`): the key of one server is never
    sent to another.
    """
    return "LOOPAI_" if alias == DEFAULT_ALIAS else f"LOOPAI_{alias.upper().replace('-', '_')}_"


def _environment(alias: str) -> dict[str, str]:
    """Return the environment variables of `alias`, under the names in the table of options."""
    prefix = _prefix(alias)
    variables = {option.environment: os.environ.get(prefix + option.django, "") for option in OPTIONS}
    return {name: value for name, value in variables.items() if value}


def arguments_of(alias: str) -> dict[str, Any]:
    """Return `settings.LOOPAI[alias]` as arguments. Raises `ImproperlyConfigured` naming alias and key."""
    known = _setting()
    if alias not in known:
        raise ImproperlyConfigured(
            f"LOOPAI has no alias {alias!r}: it has {', '.join(map(repr, sorted(known)))}; add it to your settings"
        )
    try:
        return from_settings(known[alias], f"LOOPAI[{alias!r}]")
    except ConfigurationError as error:
        raise ImproperlyConfigured(str(error)) from None


def config_of(alias: str) -> Config:
    """Return the configuration of `alias`: settings before environment before default.

    `sources` of the result names the variable that a value came from. Raises `ImproperlyConfigured` naming alias and
    key or variable.
    """
    arguments = arguments_of(alias)
    environ = _environment(alias)
    own_names = {option.environment: _prefix(alias) + option.django for option in OPTIONS}
    try:
        config = resolve(arguments, environ)
    except ConfigurationError as error:
        variable, space, rest = str(error).partition(" ")
        raise ImproperlyConfigured(f"LOOPAI[{alias!r}]: {own_names.get(variable, variable)}{space}{rest}") from None
    return replace(config, sources={name: own_names.get(source, source) for name, source in config.sources.items()})
