"""Shorten a server's texts and remove secrets, before they are kept or shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

TEXT_KEPT = 2_000
"""Characters of a server's text that an exception keeps: the important part is at the start."""

MEMBERS_KEPT = 1_000
"""Members and entries of an error's body that an exception keeps, at all levels together."""

CERTAIN = 8
"""Length from which a secret is removed anywhere in a text; a shorter one only where it is a whole word."""

_CREDENTIAL = re.compile(r"\bauth\b|authori[sz]|cookie|key|password|secret|token")


def secrets_of(headers: Mapping[str, str], *others: Optional[str]) -> list[str]:
    """Return what errors must not show if a server or proxy echoes it: credentials in `headers`, and `others`."""
    found = [secret for secret in others if secret]
    for name, value in headers.items():
        if _CREDENTIAL.search(name):
            # The key of `Bearer <key>` may be echoed without its scheme.
            found += [value, value.partition(" ")[2]]
    escaped = [json.dumps(secret)[1:-1] for secret in found]
    # The longest first: a key that contains another is removed as a whole.
    return sorted({*found, *escaped} - {""}, key=lambda secret: (-len(secret), secret))


def without(value: Any, secrets: Iterable[str]) -> Any:
    """Return a JSON value with secrets replaced by stars."""
    if isinstance(value, str):
        for secret in secrets:
            if secret in value:
                value = re.sub(_places_of(secret), "***", value)
        return value
    if isinstance(value, dict):
        return {without(name, secrets): without(item, secrets) for name, item in value.items()}
    if isinstance(value, list):
        return [without(item, secrets) for item in value]
    return value


def _places_of(secret: str) -> str:
    """Return the pattern that finds a secret. A single letter, as in a test, is not hidden within other words."""
    escaped = re.escape(secret)
    # With a blank it is a scheme and a key, which may be short; the key is hidden on its own as well.
    return escaped if len(secret) >= CERTAIN and " " not in secret else rf"(?<!\w){escaped}(?!\w)"


def shortened(text: str, limit: int = TEXT_KEPT) -> str:
    """Return the start of a text, with a mark where it was cut."""
    return text if len(text) <= limit else text[:limit] + "…"


def bounded(value: Any) -> Any:
    """Return a JSON value with shortened texts, and no more members than an exception keeps."""
    left = MEMBERS_KEPT

    def cut(part: Any) -> Any:
        nonlocal left
        if isinstance(part, str):
            return shortened(part)
        if isinstance(part, dict):
            kept = {}
            for name, item in part.items():
                if left <= 0:
                    break
                left -= 1
                kept[shortened(name)] = cut(item)
            return kept
        if isinstance(part, list):
            listed = []
            for item in part:
                if left <= 0:
                    break
                left -= 1
                listed.append(cut(item))
            return listed
        return part

    return cut(value)


_MESSAGE = re.compile(rb'("error_?[mM]essage"\s*:\s*)("(?:[^"\\]|\\.)*")', re.DOTALL)


def scrub_messages(content: bytes, secrets: Sequence[str]) -> bytes:
    """Return a reply without secrets in programs' errors; outputs are unchanged."""
    found = [re.compile(_places_of(secret).encode()) for secret in secrets if secret.encode() in content]
    if not found:
        return content

    def scrubbed(match: re.Match[bytes]) -> bytes:
        text = match[2]
        for secret in found:
            text = secret.sub(b"***", text)
        return match[1] + text

    return _MESSAGE.sub(scrubbed, content)


_KINDS = {bool: "a JSON boolean", str: "a JSON string", int: "a JSON number", float: "a JSON number",
          list: "a JSON array", dict: "a JSON object"}  # fmt: skip


def json_kind(value: Any) -> str:
    """Return what a decoded JSON value is, in JSON's words: `null`, `a JSON array`."""
    return "null" if value is None else _KINDS[type(value)]
