"""What a server runs by. Read by everything here; where the values come from is the caller's business."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .._core.limits import LARGEST_BODY

DEEPEST_BODY = 32
"""Levels of nesting that a request body may have; the limit of the real server's JSON reader."""


@dataclass(frozen=True)
class Settings:
    """One server's settings.

    `data` is the folder of the database; `None` is a private one that goes when the server ends. `check_inputs` says
    whether an input must fit its task's schema. `rate_limit` is the number of requests a minute, path and client
    address; `None` is without limit. `workers` is how many requests are worked on at a time.
    """

    data: Path | None = None
    api_key: str | None = field(default=None, repr=False)
    check_inputs: bool = True
    environment: str = "Development"
    rate_limit: int | None = None
    largest_body: int = LARGEST_BODY
    workers: int = 32

    @property
    def tells_reasons(self) -> bool:
        """Whether a 500 carries the reason in `details`, as the contract has it for Development."""
        return self.environment == "Development"
