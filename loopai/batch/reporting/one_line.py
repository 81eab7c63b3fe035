"""Texts for people: foreign texts on one line of a terminal, log or page, and counts with their noun."""

from __future__ import annotations

_CONTROLS = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), "\N{REPLACEMENT CHARACTER}")


def one_line(text: str, most: int) -> str:
    """Return `text` without line breaks and control characters, cut to `most` characters."""
    line = " ".join(text.split()).translate(_CONTROLS)
    return line if len(line) <= most else line[: most - 1] + "…"


def counted(number: int, noun: str) -> str:
    """Return a count with its noun: `1 row`, `2,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
