"""E-mail bodies as texts for people: HTML without its tags. It is never put on a page as HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_BREAKS = frozenset({"br", "div", "h1", "h2", "h3", "h4", "hr", "li", "p", "table", "tr", "ul"})
_SILENT = frozenset({"script", "style", "title"})
_LOOKS_LIKE_HTML = re.compile(r"<(?:!doctype|html|head|body|table|p|br|font|div|center)\b", re.IGNORECASE)


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent += 1
        elif tag in _BREAKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag in _BREAKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            # Line breaks of the source are spaces in HTML.
            self.parts.append(re.sub(r"\s+", " ", data))


def readable(body: str) -> str:
    """The text of a body, with at most one empty line between paragraphs."""
    if _LOOKS_LIKE_HTML.search(body):
        parser = _Text()
        parser.feed(body)
        body = "\n".join(line.strip() for line in "".join(parser.parts).splitlines())
    lines = [line.rstrip() for line in body.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def excerpt(body: str, length: int = 160) -> str:
    """The first words on one line."""
    text = " ".join(readable(body).split())
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"
