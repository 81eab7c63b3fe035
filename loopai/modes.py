"""The modes of a batch: what a run does if there is an earlier one. Defined once, for all interfaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Mode = Literal["new", "resume", "retry_failed", "overwrite", "continue"]

NEW: Final = "new"
"""Refuse: the default, which has no flag."""
RESUME: Final = "resume"
RETRY_FAILED: Final = "retry_failed"
OVERWRITE: Final = "overwrite"
CONTINUE: Final = "continue"

MODE_FLAGS: Final[Mapping[Mode, str]] = {
    RESUME: "Continue an earlier run.",
    RETRY_FAILED: "Continue, and repeat the rows that failed.",
    OVERWRITE: "Start again, over an output that exists.",
    CONTINUE: "Continue the last run if it is unfinished, otherwise start a new one; for cron.",
}
"""The command-line flag of each mode, with its help."""

MODES: Final[tuple[Mode, ...]] = (NEW, *MODE_FLAGS)

SKIPPING: Final = frozenset({RESUME, RETRY_FAILED, CONTINUE})
"""The modes that skip finished rows."""
