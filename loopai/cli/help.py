"""Help as people read it: without the names of Python's types, which Typer writes beside flags and arguments."""

from __future__ import annotations

from typing import Any

import typer.core


class _Plain:
    def get_params(self, ctx: Any) -> list[Any]:
        """See Typer. A flag's type says nothing, and an argument has a name of its own."""
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # mixed into what has it
        for param in found:
            if param.metavar is None or isinstance(param, typer.core.TyperArgument):
                param.display_type = _no_type
        return found


def _no_type(ctx: Any) -> str:
    return ""


class PlainCommand(_Plain, typer.core.TyperCommand):
    """A command with plain help."""


class PlainGroup(_Plain, typer.core.TyperGroup):
    """A group of commands with plain help."""
