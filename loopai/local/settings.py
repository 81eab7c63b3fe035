"""The settings of a server. Callers decide where the values come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .._core.limits import LARGEST_BODY
from ..language_model import LanguageModel

DEEPEST_BODY = 32
"""Deepest nesting of a request body; the limit of the real server's JSON reader."""

MOST_VALUES = 2_000_000
"""Most JSON values in a request body; each takes some 80 bytes."""

MOST_BODY_BYTES = 48_000_000
"""Most bytes of all request bodies held at the same time."""

MOST_PARSED_BYTES = 64_000_000
"""Approximate limit on bytes for the parsed values of large bodies at the same time."""

LARGEST_CODE = 1_000_000
"""Most characters of a pushed program; one trained on 1,000 e-mails has 150,000."""


OutputCheck = Literal["off", "warn", "reject"]
Record = Literal["all", "failures", "none"]


@dataclass(frozen=True)
class Settings:
    """One server's settings.

    `check_outputs`: whether an output that does not fit its task's schema is an error (`reject`) or logged (`warn`).
    `record` says which executions are kept, `keep_days` for how long (`None`: forever). `legacy` replies to all clients
    in the form of the first release of the SDKs. `hosts` are the host names that requests may use besides addresses
    and `localhost` (`None`: any). `trusted_proxies` are addresses whose X-Real-IP is trusted, `cors_origins` sites
    whose pages may call the server. `data` is the folder of the database (`None`: a private one, deleted with the
    server). `check_inputs` says whether an input must fit its task's schema. `rate_limit` is the number of requests
    per minute, path and client address (`None`: no limit). `workers` is the number of requests processed at a time.
    `request_seconds` limits how long a request may take to arrive, `batch_seconds` how long a batch may start rows;
    `training_seconds` and `training_memory_mb` limit the making of one program. `language_model`, or the service at
    the address `generator`, writes the programs that cannot be made here. `strict` keeps programs that score below
    their task's accuracy target as drafts.
    """

    data: Path | None = None
    hosts: frozenset[str] | None = None
    trusted_proxies: frozenset[str] = frozenset()
    cors_origins: tuple[str, ...] = ()
    api_key: str | None = field(default=None, repr=False)
    check_inputs: bool = True
    check_outputs: OutputCheck = "warn"
    record: Record = "all"
    keep_days: float | None = None
    legacy: bool = False
    environment: str = "Development"
    rate_limit: int | None = None
    largest_body: int = LARGEST_BODY
    workers: int = 32
    request_seconds: float = 30.0
    batch_seconds: float = 600.0
    training_seconds: float = 120.0
    training_memory_mb: int = 2048
    language_model: LanguageModel | None = None
    generator: str | None = field(default=None, repr=False)
    strict: bool = False

    @property
    def makes_alone(self) -> bool:
        """Whether programs are made from examples only, without a language model or service."""
        return self.language_model is None and self.generator is None

    @property
    def tells_reasons(self) -> bool:
        """Whether a 500 contains the reason in `details`, as the contract defines for Development."""
        return self.environment == "Development"
