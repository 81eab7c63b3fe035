"""Read the results of a batch's reply one by one, so that an unreadable one does not fail the others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Optional, TypeVar

from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)
_ID = re.compile(rb'"id"\s*:\s*("(?:[^"\\]|\\.)*")')


def results_of(content: bytes) -> Optional[tuple[bytes, list[bytes]]]:
    """Split a batch's reply into the reply without results and the text of each result.

    Deep nesting uses no stack. Returns `None` if there is no list of results.
    """
    depth, key, start = 0, b"", -1
    began = -1
    found: list[bytes] = []
    for token in _TOKEN.finditer(content):
        mark = token[0]
        if mark[:1] == b'"':
            if depth == 1:
                key = mark
        elif mark in b"[{":
            depth += 1
            if depth == 2 and mark == b"[" and key == b'"results"' and began < 0:
                began = start = token.end()
        elif mark in b"]}":
            if depth == 2 and start >= 0:
                last = content[start : token.start()].strip()
                if last:
                    found.append(last)
                return content[:began] + content[token.start() :], found
            depth -= 1
        elif depth == 2 and start >= 0:
            found.append(content[start : token.start()].strip())
            start = token.end()
    return None


def read_item(kind: type[M], content: bytes) -> M:
    """Read one result. An unreadable one becomes a failed item with the reason.

    Raises `ValueError` if not even the item's id can be read.
    """
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        reason = f"{place}: {problem['msg']}" if place else problem["msg"]
    return kind.model_validate(
        {"id": id_of_item(content), "success": False, "error_message": f"the result cannot be read: {reason}"}
    )


def id_of_item(content: bytes) -> str:
    """Return the id of a result that cannot be read as a whole. Raises `ValueError` if it has none."""
    # Only an id before or after the output, never one within it.
    outside = b"".join(_outer(content))
    found = _ID.search(outside)
    if found is None:
        raise ValueError("results: each must have id and success")
    return str(json.loads(found[1]))


def _outer(content: bytes) -> Iterator[bytes]:
    """Return the parts of an object that are outside its nested members."""
    depth = start = 0
    for token in _TOKEN.finditer(content):
        if token[0] in (b"[", b"{"):
            depth += 1
            if depth == 2:
                yield content[start : token.start()]
        elif token[0] in (b"]", b"}"):
            depth -= 1
            if depth == 1:
                start = token.end()
    yield content[start:] if depth <= 1 else b""
