"""The clients' options as typed dictionaries, for functions that accept them by name and pass them on.

What the options mean, and how they are checked, is in `config`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Optional, Union
from uuid import UUID

from typing_extensions import TypedDict

from ._core.hooks import Hooks
from .config import Cert, KeySource, Maybe
from .language_model import Redactor, Unverified

__all__ = ["CallOptions", "ClientOptions", "RequestOptions"]


class CallOptions(TypedDict, total=False):
    """Options that `with_options` accepts: those that a copy of a client may change."""

    api_key: Maybe[Union[str, KeySource, None]]
    max_reply_bytes: Maybe[Optional[int]]
    rate_limit: Maybe[Optional[str]]
    timeout: Maybe[Optional[float]]
    max_retries: Maybe[Optional[int]]
    deadline: Maybe[Optional[float]]
    coalesce: Maybe[bool]
    tasks: Maybe[Mapping[str, Union[str, UUID]]]
    validate_inputs: Maybe[bool]
    raise_on_error: Maybe[bool]
    retry_unknown: Maybe[bool]
    retry_waits: Maybe[bool]
    headers: Maybe[Mapping[str, str]]
    webhook_secrets: Maybe[Sequence[str]]
    webhook_tolerance: Maybe[Optional[float]]


class ClientOptions(CallOptions, total=False):
    """Options of a new client, without `transport`, `local` and `http_client`, which choose the server."""

    base_url: Maybe[str]
    max_connections: Maybe[int]
    verify: Maybe[Union[bool, str, ssl.SSLContext]]
    cert: Maybe[Optional[Cert]]
    proxy: Maybe[Optional[str]]
    trust_env: Maybe[bool]
    telemetry: Maybe[bool]
    llm_model: Maybe[Optional[str]]
    llm_base_url: Maybe[Optional[str]]
    llm_api_key: Maybe[Optional[str]]
    llm_examples: Maybe[int]
    llm_redact: Maybe[Union[str, Redactor, None]]
    llm_max_tokens: Maybe[int]
    llm_seconds: Maybe[float]
    llm_max_cost: Maybe[Optional[float]]
    llm_prices: Maybe[Optional[tuple[float, float]]]
    llm_unverified: Maybe[Unverified]
    hooks: Sequence[Hooks]


class RequestOptions(TypedDict, total=False):
    """Options of one call. They take precedence over those of the client.

    `timeout` is the time limit of each attempt, in seconds. `extra_headers` are sent in addition. `idempotency_key` is
    the key under which a server that supports it runs a POST once.
    """

    timeout: Optional[float]
    extra_headers: Mapping[str, str]
    idempotency_key: str
