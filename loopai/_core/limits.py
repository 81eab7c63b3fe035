"""Limits of the server's contract that more than one part keeps."""

from __future__ import annotations

PROGRAM_TIMEOUT_MS = 5000
"""Milliseconds a program may take where a request does not say (the contract's default)."""

LONGEST_TIMEOUT_MS = 60_000
"""Milliseconds a program may take at most; also the highest latency target of a task."""

MOST_CONCURRENCY = 100
"""Items of one batch that the server runs at once, at most."""

LARGEST_BODY = 30_000_000
"""Bytes of a request body that the server's web server reads."""
