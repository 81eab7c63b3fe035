"""The command `loopai`. Importing this costs nothing: what is needed is imported by the command that needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Optional

__all__ = ["main"]


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command line on `arguments`, those of the process without them, and give the exit code."""
    if sys.stderr is None:
        # Closed by whoever started this: what is said would otherwise go to standard output, or raise.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if find_spec("typer") is None or find_spec("rich") is None:
        sys.stderr.write("loopai: the command line needs typer and rich: pip install typer rich\n")
        return 2
    from .app import run

    return run(arguments)
