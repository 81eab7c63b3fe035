"""What commands are given: JSON on the command line, in a file or on stdin. What is wrong with it is a usage error."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from pathlib import Path
from typing import Any, NoReturn

import typer

STDIN = "-"


def read_text(name: str, flag: str) -> str:
    """The text of a file, `-` for stdin; gzipped ones (`.gz`) unpacked. Raises `typer.BadParameter`."""
    try:
        if name == STDIN:
            content = sys.stdin.buffer.read() if sys.stdin is not None else b""
        else:
            content = Path(name).expanduser().read_bytes()
            content = gzip.decompress(content) if name.endswith(".gz") else content
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise typer.BadParameter(f"{name}: {getattr(error, 'strerror', None) or error}", param_hint=flag) from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{name} is not UTF-8 text", param_hint=flag) from None


def read_json(given: str, flag: str, hint: str = "") -> Any:
    """The value of a JSON text, or of stdin's for `-`. Raises `typer.BadParameter`, with `hint` at its end."""
    if given == STDIN:
        return parsed(read_text(given, flag), flag, "stdin", hint)
    return parsed(given, flag, "", hint)


def read_schema(given: str, flag: str) -> Any:
    """A JSON schema, given as JSON or as the name of a file that holds it. Raises `typer.BadParameter`."""
    if given.lstrip()[:1] == "{" or given in {"true", "false"}:
        return parsed(given, flag, "")
    return parsed(read_text(given, flag), flag, given)


def read_examples(name: str, flag: str) -> list[Any]:
    """Examples from a file of JSON lines, or of one JSON array. Raises `typer.BadParameter`, which names the line."""
    text = read_text(name, flag)
    if text.lstrip()[:1] == "[":
        return list(parsed(text, flag, name))
    lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
    return [parsed(line, flag, f"{name} line {number}") for number, line in lines]


def parsed(text: str, flag: str, where: str, hint: str = "") -> Any:
    """The value of a JSON text. Raises `typer.BadParameter` that says `where`."""
    place = f"{where}: " if where else ""
    if not text.strip():
        raise typer.BadParameter(f"{place}empty, where JSON is needed{hint}", param_hint=flag)
    try:
        return json.loads(text, parse_constant=_refused)
    except RecursionError:
        raise typer.BadParameter(f"{place}nested too deeply", param_hint=flag) from None
    except ValueError as error:
        raise typer.BadParameter(f"{place}not JSON: {error}{hint}", param_hint=flag) from None


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
