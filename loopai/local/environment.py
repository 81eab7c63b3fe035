"""Read the server's options from the environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..config import resolve
from ..exceptions import ConfigurationError
from ..language_model import LanguageModel

PREFIX = "LOOPAI_SERVER_"
DATA = ".loopai"
"""The default data folder, as for `loopai serve`."""

_FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _flag(text: str) -> bool:
    try:
        return _FLAGS[text.lower()]
    except KeyError:
        raise ValueError("is not true or false") from None


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


_READ: dict[str, Callable[[str], Any]] = {
    "data": str,
    "allowed_hosts": _listed,
    "trusted_proxies": _listed,
    "cors_origins": _listed,
    "check_inputs": _flag,
    "check_outputs": str,
    "record": str,
    "keep_days": float,
    "rate_limit": int,
    "request_timeout": float,
    "legacy": _flag,
    "generator": str,
    "strict": _flag,
}


def _language_model(environ: Mapping[str, str]) -> LanguageModel | None:
    own = {variable: text for variable, text in environ.items() if variable.startswith("LOOPAI_LLM_")}
    return resolve({}, own).language_model


def options_from(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the options; empty variables count as not set. Raises `ConfigurationError` for one that is not known."""
    options: dict[str, Any] = {"data": DATA}
    for variable, text in environ.items():
        if variable.startswith(PREFIX) and text.strip():
            name = variable[len(PREFIX) :].lower()
            if name not in _READ:
                known = ", ".join(PREFIX + known.upper() for known in _READ)
                raise ConfigurationError(f"{variable} is not an option of the server: there are {known}")
            try:
                options[name] = _READ[name](text.strip())
            except ValueError as error:
                raise ConfigurationError(f"{variable}={text!r} cannot be used: {error}") from error
    options["language_model"] = _language_model(environ)
    for name in ("api_key", "api_key_file"):
        if environ.get(f"LOOPAI_{name.upper()}"):
            options[name] = environ[f"LOOPAI_{name.upper()}"]
    return options
