"""Batch validate's comparison, which the contract does on the request's text: key order, spaces and literals matter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from json.decoder import WHITESPACE  # type: ignore[attr-defined]  # in the module, not in its stubs

_decoder = json.JSONDecoder()


def pairs(content: bytes) -> list[tuple[str, str]]:
    """Return the texts of `output` and `expected_output` of each item of a well-formed body."""
    text = content.decode()
    outputs = []
    for name, start in _members(text, _skip(text, 0)):
        if name.lower() == "items":
            outputs = [_outputs(text, item) for item in _items(text, start)]
    return outputs


def _outputs(text: str, start: int) -> tuple[str, str]:
    raw = {
        name.replace("_", "").lower(): text[at : _decoder.raw_decode(text, at)[1]] for name, at in _members(text, start)
    }
    return _compared(raw["output"]), _compared(raw["expectedoutput"])


def _compared(raw: str) -> str:
    """Return a JSON element as .NET compares it: strings by value, everything else by its text."""
    if raw.startswith('"'):
        return str(json.loads(raw))
    return {"null": "", "true": "True", "false": "False"}.get(raw, raw)


def _skip(text: str, at: int) -> int:
    return int(WHITESPACE.match(text, at).end())


def _members(text: str, start: int) -> Iterator[tuple[str, int]]:
    """Return names and value positions of the object that starts at `start`."""
    at = _skip(text, start + 1)
    while text[at] != "}":
        name, at = _decoder.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)
        yield name, at
        at = _next(text, at)


def _items(text: str, start: int) -> Iterator[int]:
    """Return the value positions of the array that starts at `start`."""
    at = _skip(text, start + 1)
    while text[at] != "]":
        yield at
        at = _next(text, at)


def _next(text: str, at: int) -> int:
    """Return the position of the next member, item or closing bracket after the value at `at`."""
    at = _skip(text, _decoder.raw_decode(text, at)[1])
    return _skip(text, at + 1) if text[at] == "," else at
