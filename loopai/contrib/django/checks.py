"""System checks of `settings.LOOPAI`, with ids and hints, without network: `manage.py loopai_health` uses it."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.urls import NoReverseMatch, reverse

from ...config import TRANSPORT_NAMES, Config
from .conf import aliases, arguments_of, config_of

TAG = "loopai"


def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """Check the settings, without network."""
    try:
        names = aliases()
    except ImproperlyConfigured as error:
        return [checks.Error(str(error), hint="See LOOPAI in your settings.", id="loopai.E001")]
    return [message for alias in names for message in _of_alias(alias)]


def _of_alias(alias: str) -> Iterator[checks.CheckMessage]:
    try:
        config = config_of(alias)
    except ImproperlyConfigured as error:
        yield checks.Error(str(error), hint="Correct the key that the message names.", id="loopai.E002")
        return
    where = f"LOOPAI[{alias!r}]"
    if config.sources["base_url"] == "default" and not config.local and isinstance(config.transport, str):
        yield checks.Warning(
            f"{where} names no server; {config.base_url} is assumed.",
            hint=f'Set {where}["BASE_URL"], or {where}["LOCAL"] to run on an embedded server.',
            id="loopai.W001",
        )
    yield from _of_transport(where, config)
    if config.validate_inputs and importlib.util.find_spec("jsonschema_rs") is None:
        yield checks.Error(
            f"{where} has VALIDATE_INPUTS, whose library is not installed.",
            hint="pip install jsonschema-rs (on Python 3.10 or newer)",
            id="loopai.E008",
        )
    if not settings.DEBUG:
        yield from _of_production(alias, where, config)


def _of_transport(where: str, config: Config) -> Iterator[checks.CheckMessage]:
    if not isinstance(config.transport, str):
        return
    if config.transport not in TRANSPORT_NAMES:
        yield checks.Error(
            f"{where} names an unknown transport: {config.transport!r}.",
            hint=f"One of {', '.join(TRANSPORT_NAMES)}.",
            id="loopai.E003",
        )
    elif importlib.util.find_spec(config.transport) is None:
        yield checks.Error(
            f"{where} names the transport {config.transport!r}, whose library is not installed.",
            hint=f"pip install {config.transport}",
            id="loopai.E004",
        )


def _of_production(alias: str, where: str, config: Config) -> Iterator[checks.CheckMessage]:
    """Check for settings that are only right on a developer's machine."""
    for option, secrets in (
        ("api_key", [config.api_key]),
        ("webhook_secrets", config.webhook_secrets),
        ("llm_api_key", [config.llm_api_key]),
    ):
        texts = [secret for secret in secrets if isinstance(secret, str)]
        if option in arguments_of(alias) and any(not _from_environment(secret) for secret in texts if secret):
            key = option.upper()
            variable = f"LOOPAI_{key}" if alias == "default" else f"LOOPAI_{alias.upper()}_{key}"
            yield checks.Warning(
                f"{where} has its {key} in plain text.",
                hint=f'Take it from the environment: leave {where}["{key}"] out and set {variable}. '
                "If it comes from a secrets file, silence this check.",
                id="loopai.W002",
            )
    parts = urlsplit(config.base_url)
    if parts.scheme == "http" and not config.local and not _is_near(parts.hostname or ""):
        yield checks.Warning(
            f"{where} reaches {parts.hostname} over http: inputs and key can be read on the way.",
            hint=f'Use https in {where}["BASE_URL"].',
            id="loopai.W003",
        )
    if config.verify is False:
        yield checks.Warning(
            f"{where} does not verify the server's certificate.",
            hint=f'Set {where}["VERIFY"] to the file of your certificate authority.',
            id="loopai.W004",
        )


def _from_environment(secret: str) -> bool:
    return any(secret == value or secret in value.split(",") for value in os.environ.values())


def _is_near(host: str) -> bool:
    """Return whether a host is this machine or in a private network, such as names without a dot (compose, cluster)."""
    if host == "localhost" or ("." not in host and ":" not in host):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.endswith((".localhost", ".local", ".internal"))
    return address.is_private or address.is_loopback


def check_webhooks(**_: Any) -> list[checks.CheckMessage]:
    """A webhook view without secrets refuses every delivery."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    try:
        reverse("loopai:webhook")
    except NoReverseMatch:
        return []
    try:
        if any(config_of(alias).webhook_secrets for alias in aliases()):
            return []
    except ImproperlyConfigured:
        return []  # check_settings reports it
    return [
        # A warning: a checkout without secrets can run `check` and `migrate`.
        checks.Warning(
            "The webhook view is in your URLs, and no alias has WEBHOOK_SECRETS: it refuses every delivery.",
            hint="Set LOOPAI['default'][\"WEBHOOK_SECRETS\"] = [new, old] to the secrets of your subscriptions.",
            id="loopai.W005",
        )
    ]
