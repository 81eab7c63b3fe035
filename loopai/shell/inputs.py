"""Read the inputs of commands: JSON on the command line, in a file or on stdin. Invalid input raises `ValueError`."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from pathlib import Path
from typing import Any, NoReturn

STDIN = "-"


def read_text(name: str) -> str:
    """Return the text of a file, or of stdin for `-`; a file named `.gz` is decompressed. Raises `ValueError`."""
    try:
        if name == STDIN:
            content = sys.stdin.buffer.read() if sys.stdin is not None else b""
        else:
            content = Path(name).expanduser().read_bytes()
            content = gzip.decompress(content) if name.endswith(".gz") else content
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name}: {getattr(error, 'strerror', None) or error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not UTF-8 text") from None


def read_json(given: str, hint: str = "") -> Any:
    """Return the value of a JSON text, or of stdin's for `-`. Raises `ValueError`, with `hint` at its end."""
    return parsed(read_text(given), "stdin", hint) if given == STDIN else parsed(given, "", hint)


def read_schema(given: str) -> Any:
    """Return a JSON schema, given as JSON or as the name of a file that holds it. Raises `ValueError`."""
    if given.lstrip()[:1] == "{" or given in {"true", "false"}:
        return parsed(given, "")
    return parsed(read_text(given), given)


def read_examples(name: str) -> list[Any]:
    """Return examples from a file of JSON lines, or of one JSON array. Raises `ValueError`, which names the line."""
    text = read_text(name)
    if text.lstrip()[:1] == "[":
        return list(parsed(text, name))
    lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
    return [parsed(line, f"{name} line {number}") for number, line in lines]


def parsed(text: str, where: str, hint: str = "") -> Any:
    """Return the value of a JSON text. Raises `ValueError` that says `where`."""
    place = f"{where}: " if where else ""
    if not text.strip():
        raise ValueError(f"{place}empty, where JSON is needed{hint}")
    try:
        return json.loads(text, parse_constant=_refused)
    except RecursionError:
        raise ValueError(f"{place}nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{place}not JSON: {error}{hint}") from None


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")
