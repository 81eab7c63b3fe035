"""Help for people: without the names of Python's types and the braces that Typer writes."""

from __future__ import annotations

from typing import Any

import typer.core


class _Plain:
    def get_params(self, ctx: Any) -> list[Any]:
        """See Typer. The type of a flag or an argument tells users nothing."""
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # mixed into a class that has it
        for param in found:
            if param.metavar is None or isinstance(param, typer.core.TyperArgument):
                param.display_type = _no_type
        return found

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """See Typer, whose newer versions write `{TASK}` for a required argument."""
        pieces: list[str] = super().collect_usage_pieces(ctx)  # type: ignore[misc]  # as above
        return [piece.strip("{}") for piece in pieces]


def _no_type(ctx: Any) -> str:
    return ""


class PlainCommand(_Plain, typer.core.TyperCommand):
    """A command with plain help."""


class PlainGroup(_Plain, typer.core.TyperGroup):
    """A group of commands with plain help."""
