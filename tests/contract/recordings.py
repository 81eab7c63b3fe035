"""What the published server answered, line by line, and a server of ours that is asked the same."""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

FOLDER = Path(__file__).parent / "recorded"
GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    """One request and its reply. `label` is unique; `name` may stand for the same request in both environments."""

    label: str
    file: str
    name: str
    environment: str
    method: str
    path: str
    body: Optional[bytes]
    request_headers: dict[str, str] = field(repr=False)
    status: int
    headers: dict[str, str] = field(repr=False)
    reply: str = field(repr=False)
    note: Optional[str] = field(repr=False)

    @property
    def json(self) -> Any:
        """The reply as JSON, None where it is none."""
        try:
            return json.loads(self.reply)
        except ValueError:
            return None


def lines() -> Iterator[Line]:
    """All lines of all files, in order."""
    seen: dict[str, int] = {}
    for path in sorted(FOLDER.glob("*.jsonl")):
        for text in path.read_text(encoding="utf-8").splitlines():
            told = json.loads(text)
            label = f"{told['name']}-{told['environment']}"
            seen[label] = seen.get(label, 0) + 1
            yield Line(
                label=label if seen[label] == 1 else f"{label}-{seen[label]}",
                file=path.stem,
                name=told["name"],
                environment=told["environment"],
                method=told["method"],
                path=told["path"],
                body=_body(told),
                request_headers=told.get("request_headers") or {},
                status=told["status"],
                headers=told.get("headers") or {},
                reply=told["reply"],
                note=told.get("note"),
            )


def _body(told: dict[str, Any]) -> Optional[bytes]:
    if "request_base64" in told:
        return base64.b64decode(told["request_base64"])
    text = told.get("request")
    if text is None:
        return None
    long = re.fullmatch(r"<(\d+) bytes>", text)
    return text.encode() if long is None else _of_length(told, int(long[1]))


def _of_length(told: dict[str, Any], length: int) -> bytes:
    """A body of so many bytes, of the kind that its name says."""
    if told["path"].endswith("/execute"):
        task_id = GUID.search(told["path"])
        assert task_id is not None
        around = '{"task_id":"%s","input":{"text":"%s"}}'
        return (around % (task_id[0], "x" * (length - len(around % (task_id[0], ""))))).encode()
    around = '{"name":"%s","description":"%s","input_schema":{},"output_schema":{}}'
    name = "a" * 201
    return (around % (name, "x" * (length - len(around % (name, ""))))).encode()


LINES = list(lines())
"""Every line."""


@dataclass(frozen=True)
class RecordedTask:
    """A task that lines refer to, and the program it ran."""

    id: str
    name: str
    code: Optional[str]


def tasks() -> dict[str, RecordedTask]:
    """The tasks by their recorded ids: from the replies that made or showed them, and from the programs' lines."""
    found: dict[str, RecordedTask] = {}
    for line in LINES:
        reply = line.json
        if isinstance(reply, dict) and "description" in reply and "id" in reply:
            code = re.match(r"CODE:(.*)", reply["description"] or "", re.DOTALL)
            found.setdefault(reply["id"], RecordedTask(reply["id"], reply["name"], code and code[1]))
        for artifact in reply if isinstance(reply, list) and line.path.endswith("/artifacts") else ():
            task_id = artifact["task_id"]
            if task_id not in found or found[task_id].code is None:
                found[task_id] = RecordedTask(task_id, f"of-{task_id[:8]}", artifact["code"])
        if line.file == "programs":
            task_id = _path_id(line)
            found[task_id] = RecordedTask(task_id, f"of-{task_id[:8]}", line.note)
        if line.name == "generate.fails":
            task_id = _path_id(line)
            found.setdefault(task_id, RecordedTask(task_id, f"of-{task_id[:8]}", None))
        if line.name == "batch.lone_surrogate":
            task_id = json.loads(line.body or b"")["task_id"]
            code = 'function main(input){return input.bad ? "\\ud800" : input.n}'
            found.setdefault(task_id, RecordedTask(task_id, f"of-{task_id[:8]}", code))
    return found


def _path_id(line: Line) -> str:
    found = GUID.search(line.path)
    assert found is not None
    return found[0].lower()


TASKS = tasks()


def replaced(text: str, ids: dict[str, str]) -> str:
    """The text with recorded ids replaced by ours, in whatever form of a GUID they stand."""

    def ours(found: re.Match[str]) -> str:
        return ids.get(found[0].lower(), found[0])

    text = GUID.sub(ours, text)
    for recorded, own in ids.items():
        text = text.replace(uuid.UUID(recorded).hex, uuid.UUID(own).hex)
    return text


def shape(value: Any, path: str = "") -> dict[str, str]:
    """The members of a JSON value and their types: `results[0].id: string`. Free members count as one, of any type."""
    if isinstance(value, dict):
        found = {path or ".": "object"}
        for name, item in value.items():
            where = f"{path}.{name}"
            found.update({where: "any"} if name in FREE else shape(item, where))
        return found
    if isinstance(value, list):
        found = {path or ".": "array"}
        for place, item in enumerate(value):
            found.update(shape(item, f"{path}[{place}]"))
        return found
    if value is None:
        return {path or ".": "null"}
    kinds = {bool: "boolean", int: "number", float: "number", str: "string"}
    return {path or ".": kinds[type(value)]}


FREE = {"input_schema", "output_schema", "examples", "output", "expected_output", "errors", "details"}
"""Members whose value is the caller's own, or whose names are compared by another rule."""
