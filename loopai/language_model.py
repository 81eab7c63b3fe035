"""`LanguageModel`: which language model writes programs, what it gets, and its limits. It is not called here."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, field
from typing import Any, Callable, Literal, Optional
from urllib.parse import urlsplit

from .exceptions import ConfigurationError

__all__ = ["MOST_EXAMPLES", "LanguageModel", "Redactor", "Unverified", "name_of", "redactor_of"]

MOST_EXAMPLES = 30
"""Most examples in a prompt: more teach a model little, and each one leaves the machine."""

_OPENAI = "api.openai.com"
_PROVIDERS = {
    _OPENAI: "openai",
    "openai.azure.com": "azure",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "google",
}

Unverified = Literal["active", "draft"]
"""The status of a program that no examples could check."""

Redactor = Callable[[Any], Any]
"""Returns what is sent to the model instead of an example; None to leave it out."""


@dataclass(frozen=True)
class LanguageModel:
    """A model at an OpenAI-compatible endpoint, by default OpenAI's own, and the limits of one generation.

    `examples` is the number of a task's examples that are sent at most, and `redact` names the function
    (`"package.module:function"`) that changes each of them first. `max_tokens` limits prompts and replies together,
    `seconds` the time, `max_cost` the dollars; `prices` are dollars per million tokens, input and output.
    """

    model: str
    base_url: Optional[str] = None
    api_key: Optional[str] = field(default=None, repr=False)
    examples: int = MOST_EXAMPLES
    redact: Optional[str] = None
    max_tokens: int = 100_000
    seconds: float = 120.0
    max_cost: Optional[float] = None
    prices: Optional[tuple[float, float]] = None
    unverified: Unverified = "active"

    def __post_init__(self) -> None:
        if self.max_cost is not None and self.prices is None:
            raise ConfigurationError(
                "llm_max_cost needs llm_prices, dollars per million tokens, input and output: llm_prices='0.4,1.6'"
            )

    @property
    def host(self) -> str:
        """The host that prompts are sent to."""
        return _OPENAI if self.base_url is None else urlsplit(self.base_url).hostname or self.base_url

    @property
    def provider(self) -> str:
        """The provider's name if the host is known, otherwise the host."""
        for host, name in _PROVIDERS.items():
            if self.host == host or self.host.endswith(f".{host}"):
                return name
        return self.host


def name_of(function: Callable[..., Any]) -> str:
    """Return `module:function` of a function that another process can import. Raises `ValueError`."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    found: Any = sys.modules.get(module or "")
    for part in name.split("."):
        found = getattr(found, part, None)
    if module == "__main__" or found is not function:
        raise ValueError("must be a function that can be imported by its name, as it runs in another process")
    return f"{module}:{name}"


def redactor_of(path: str) -> Redactor:
    """Return the function that `redact` names. Raises `ConfigurationError` if there is none."""
    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"llm_redact={path!r} cannot be imported: {error}") from None
    if not callable(found):
        raise ConfigurationError(f"llm_redact={path!r} is not a function")
    function: Redactor = found
    return function
