"""`LoopaiSettings`: the client's options from arguments, `LOOPAI_` variables and `.env`, with the same validation."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Callable, Optional, Union

from pydantic import (
    BeforeValidator,
    Field,
    FieldSerializationInfo,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_serializer,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from ...config import EMBEDDED, OPTIONS
from ...exceptions import ConfigurationError
from ...language_model import MOST_EXAMPLES, Unverified

CLOSE_GRACE = 10.0
"""Seconds for calls in flight and open batches at shutdown."""

_TABLE = {option.argument: option for option in OPTIONS}


def _by_table(argument: str) -> BeforeValidator:
    read = _TABLE[argument].read

    def validated(value: Any) -> Any:
        found = read(value.get_secret_value() if isinstance(value, SecretStr) else value)
        # As a dictionary it can be copied, pickled and written as JSON.
        return dict(found) if isinstance(found, Mapping) else found

    return BeforeValidator(validated)


def _secrets(value: Any) -> tuple[SecretStr, ...]:
    if isinstance(value, (list, tuple)):
        value = [item.get_secret_value() if isinstance(item, SecretStr) else item for item in value]
    return tuple(SecretStr(secret) for secret in _TABLE["webhook_secrets"].read(value))


def _told(place: tuple[Union[int, str], ...], values: dict[str, Any], prefix: str) -> str:
    name = str(place[0]) if place else "LoopaiSettings"
    return name if name in values else f"{prefix}{name.upper()}"


def _is_on(local: Any) -> bool:
    try:
        return bool(_TABLE["local"].read(local))
    except (TypeError, ValueError):  # reported with the other fields
        return False


_SERVERS = ("base_url", "transport")
_STARS = "**********"
_PERIODS = {1.0: "second", 60.0: "minute", 3600.0: "hour"}


class _Decided(PydanticBaseSettingsSource):
    """A source whose `local` yields to an address or transport of a stronger source, as for a client."""

    def __init__(
        self,
        settings_cls: type[BaseSettings],
        own: PydanticBaseSettingsSource,
        stronger: tuple[PydanticBaseSettingsSource, ...],
    ) -> None:
        super().__init__(settings_cls)
        self._own = own
        self._stronger = stronger

    def get_field_value(self, field: Any, field_name: str) -> Any:
        """See `PydanticBaseSettingsSource`."""
        return self._own.get_field_value(field, field_name)

    def __call__(self) -> dict[str, Any]:
        """Return what the source says. Raises `ConfigurationError` for both `local` and a transport."""
        found = self._own()
        if not _is_on(found.get("local", False)):
            return found
        told = {name for source in self._stronger for name in source()}
        if "local" in told:
            return found
        if told.intersection(_SERVERS):
            return {name: value for name, value in found.items() if name != "local"}
        if found.get("transport", _TABLE["transport"].default) != _TABLE["transport"].default:
            raise ConfigurationError("local and transport exclude each other: pass one of them")
        return found


class LoopaiSettings(BaseSettings):
    """The options of a client: from arguments, then environment (`LOOPAI_BASE_URL`, …), then `.env`, then defaults.

    Times are in seconds; `None` (or `none` in the environment) means no limit. In the environment, `tasks` is
    `name=id,name=id` and `webhook_secrets` is `new,old`. Two options are for the lifespan: with `check_on_startup`, the
    start fails if the server does not answer or does not know the task of a batch router; `close_grace` is how many
    seconds to wait for calls in flight at shutdown. With `_env_prefix="LOOPAI_OTHER_"` the settings of another alias
    read their own variables, as Django's aliases do. Without it they share these variables, except secrets: no server
    receives the key of another.

    Raises `ConfigurationError`, which names the invalid argument or variable.
    """

    model_config = SettingsConfigDict(
        env_prefix="LOOPAI_",
        env_file=".env",
        # As everywhere: an empty variable counts as not set.
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    base_url: Annotated[str, _by_table("base_url")] = "http://localhost:8080"
    api_key: Annotated[Union[SecretStr, Callable[[], Any], None], _by_table("api_key")] = None
    timeout: Annotated[Optional[float], _by_table("timeout")] = 30.0
    max_retries: Annotated[Optional[int], _by_table("max_retries")] = 3
    deadline: Annotated[Optional[float], _by_table("deadline")] = None
    max_connections: Annotated[int, _by_table("max_connections")] = 100
    max_reply_bytes: Annotated[Optional[int], _by_table("max_reply_bytes")] = 64_000_000
    transport: Annotated[Any, _by_table("transport")] = "httpx"
    coalesce: Annotated[bool, _by_table("coalesce")] = False
    tasks: Annotated[Any, NoDecode, _by_table("tasks")] = Field(default_factory=dict)
    validate_inputs: Annotated[bool, _by_table("validate_inputs")] = False
    raise_on_error: Annotated[bool, _by_table("raise_on_error")] = True
    retry_unknown: Annotated[bool, _by_table("retry_unknown")] = True
    retry_waits: Annotated[bool, _by_table("retry_waits")] = True
    rate_limit: Annotated[Any, _by_table("rate_limit")] = None
    verify: Annotated[Any, _by_table("verify")] = True
    cert: Annotated[Any, NoDecode, _by_table("cert")] = Field(default=None, repr=False)
    proxy: Annotated[Optional[str], _by_table("proxy")] = Field(default=None, repr=False)
    trust_env: Annotated[bool, _by_table("trust_env")] = True
    headers: Annotated[Any, _by_table("headers")] = Field(default_factory=dict, repr=False)
    telemetry: Annotated[bool, _by_table("telemetry")] = False
    local: Annotated[Union[bool, str], _by_table("local")] = False
    llm_model: Annotated[Optional[str], _by_table("llm_model")] = None
    llm_base_url: Annotated[Optional[str], _by_table("llm_base_url")] = None
    llm_api_key: Annotated[Optional[SecretStr], _by_table("llm_api_key")] = None
    llm_examples: Annotated[int, _by_table("llm_examples")] = MOST_EXAMPLES
    llm_redact: Annotated[Optional[str], _by_table("llm_redact")] = None
    llm_max_tokens: Annotated[int, _by_table("llm_max_tokens")] = 100_000
    llm_seconds: Annotated[float, _by_table("llm_seconds")] = 120.0
    llm_max_cost: Annotated[Optional[float], _by_table("llm_max_cost")] = None
    llm_prices: Annotated[Optional[tuple[float, float]], NoDecode, _by_table("llm_prices")] = None
    llm_unverified: Annotated[Unverified, _by_table("llm_unverified")] = "active"
    webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_secrets)] = ()
    webhook_tolerance: Annotated[Optional[float], _by_table("webhook_tolerance")] = 3600.0
    check_on_startup: bool = False
    close_grace: float = Field(default=CLOSE_GRACE, ge=0, allow_inf_nan=False)

    # Secrets that come from the variables shared by all aliases, not from arguments.
    _of_the_environment: frozenset[str] = PrivateAttr(frozenset())

    def __init__(self, **values: Any) -> None:
        arguments = frozenset(values)
        known = type(self).model_fields
        # Names with an underscore are pydantic-settings' own (`_env_file=None`). Ignore other entries of `.env`.
        for name in values:
            if name not in known and not name.startswith("_"):
                close = difflib.get_close_matches(name, known, n=1)
                hint = f": did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
                raise ConfigurationError(f"LoopaiSettings has no option {name!r}{hint}")
        try:
            super().__init__(**values)
        except ValidationError as error:
            prefix = values.get("_env_prefix") or type(self).model_config.get("env_prefix", "")
            wrong = [
                f"{_told(problem['loc'], values, prefix)} {problem['msg'].removeprefix('Value error, ')}"
                for problem in error.errors(include_url=False, include_input=False, include_context=False)
            ]
        else:
            if (values.get("_env_prefix") or type(self).model_config.get("env_prefix")) == "LOOPAI_":
                secret = {option.argument for option in OPTIONS if option.secret}
                self._of_the_environment = frozenset((self.model_fields_set & secret) - arguments)
            return
        # Outside the handler: what pydantic raises has the values, secrets among them, in its frames.
        raise ConfigurationError("; ".join(wrong))

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *given: Any, **named: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, which decide together which server is called; see pydantic-settings."""
        sources = super().settings_customise_sources(settings_cls, *given, **named)
        return tuple(_Decided(settings_cls, source, sources[:place]) for place, source in enumerate(sources))

    @model_validator(mode="before")
    @classmethod
    def _show_the_embedded_server(cls, values: Any) -> Any:
        if isinstance(values, dict) and _is_on(values.get("local", False)):
            return {**values, "base_url": EMBEDDED, "transport": _TABLE["transport"].default}
        return values

    @field_serializer("transport", "verify", when_used="json")
    def _named(self, value: Any) -> Any:
        # Your own object is shown by name: JSON cannot represent it.
        return value if value is None or isinstance(value, (str, bool)) else type(value).__qualname__

    @field_serializer("api_key", "headers", "proxy", "cert", mode="wrap", when_used="json")
    def _hidden(self, value: Any, write: Callable[[Any], Any], info: FieldSerializationInfo) -> Any:
        # Like a `SecretStr`. Python's form keeps them, so that it can be passed to `LoopaiSettings` again.
        if info.field_name == "headers":
            return dict.fromkeys(value, _STARS)
        if info.field_name == "proxy" and value is not None:
            scheme, _, rest = value.partition("://")
            return f"{scheme}://{_STARS}@{rest.rpartition('@')[2]}" if "@" in rest else value
        if info.field_name == "cert" and isinstance(value, tuple):
            return [*value[:2], *(_STARS for _ in value[2:])]
        return _STARS if callable(value) else write(value)

    @field_serializer("rate_limit")
    def _as_text(self, value: Any) -> Any:
        return None if value is None else f"{value.requests}/{_PERIODS[value.seconds]}"

    def arguments(self, alias: str = "default") -> dict[str, Any]:
        """Return all options as arguments of a client, with secrets in plain text.

        The key, headers and webhook secrets in `LOOPAI_` variables are for the default alias. Another `alias` gets its
        own from arguments or from its own variables (`_env_prefix`), so that no server receives the key of another.
        """
        given = {name: getattr(self, name) for name in _TABLE}
        if isinstance(self.api_key, SecretStr):
            given["api_key"] = self.api_key.get_secret_value()
        if self.llm_api_key is not None:
            given["llm_api_key"] = self.llm_api_key.get_secret_value()
        given["webhook_secrets"] = [secret.get_secret_value() for secret in self.webhook_secrets]
        if alias != "default":
            given.update({name: _TABLE[name].default for name in self._of_the_environment})
        if given["local"]:
            # A fake replaces the address: it is a transport.
            del given["base_url"], given["transport"]
        return given
