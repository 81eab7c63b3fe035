"""The command `loopai`. This import is cheap: each command imports what it needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Optional

__all__ = ["main"]


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command line with `arguments`, by default those of the process, and return the exit code."""
    if sys.stderr is None:
        # The caller closed it: errors would go to standard output, or raise.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if find_spec("typer") is None or find_spec("rich") is None:
        sys.stderr.write("loopai: the command line needs typer and rich: pip install typer rich\n")
        return 2
    from .app import run

    return run(arguments)
