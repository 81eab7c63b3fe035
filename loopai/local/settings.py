"""What a server runs by. Read by everything here; where the values come from is the caller's business."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

LARGEST_BODY = 30_000_000
"""Bytes of a request body that are read; the limit of the real server's web server."""

DEEPEST_BODY = 32
"""Levels of nesting that a request body may have; the limit of the real server's JSON reader."""

MOST_VALUES = 2_000_000
"""JSON values in a request body; each takes some 80 bytes."""

MOST_BODY_BYTES = 150_000_000
"""Bytes of all request bodies that are held at a time."""

MOST_PARSED_BYTES = 200_000_000
"""About how many bytes what large bodies say may take at a time."""

LARGEST_CODE = 1_000_000
"""Characters of a program that is pushed; a trained one of 1,000 e-mails has 150,000."""

PROGRAM_TIMEOUT_MS = 5000
"""Milliseconds a program may take where the request does not say (the contract's default)."""


@dataclass(frozen=True)
class Settings:
    """One server's settings.

    `data` is the folder of the database; `None` is a private one that goes when the server ends. `check_inputs` says
    whether an input must fit its task's schema. `rate_limit` is the number of requests a minute, path and client
    address; `None` is without limit. `workers` is how many requests are worked on at a time. `request_seconds` is how
    long a request may take to arrive, `batch_seconds` how long a batch may take up rows, and `training_seconds` and
    `training_memory_mb` bound the making of one program.
    """

    data: Path | None = None
    api_key: str | None = field(default=None, repr=False)
    check_inputs: bool = True
    environment: str = "Development"
    rate_limit: int | None = None
    largest_body: int = LARGEST_BODY
    workers: int = 32
    request_seconds: float = 30.0
    batch_seconds: float = 600.0
    training_seconds: float = 120.0
    training_memory_mb: int = 2048

    @property
    def tells_reasons(self) -> bool:
        """Whether a 500 carries the reason in `details`, as the contract has it for Development."""
        return self.environment == "Development"
