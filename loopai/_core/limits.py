"""Limits of the server's contract that several modules use."""

from __future__ import annotations

PROGRAM_TIMEOUT_MS = 5000
"""Default time limit of a program, in milliseconds (from the contract)."""

LONGEST_TIMEOUT_MS = 60_000
"""Longest time limit of a program, in milliseconds; also the highest latency target of a task."""

MOST_CONCURRENCY = 100
"""Most items of one batch that the server runs at a time."""

LARGEST_BODY = 30_000_000
"""Largest request body that the server reads, in bytes."""
