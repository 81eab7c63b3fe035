"""Replies for the SDKs 0.1.0: camelCase with `id`, `/health` as JSON, 404 for an unknown task.

Only replies differ; requests are accepted in either spelling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json, to_json
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Send

from .bodies import EMPTY_GUID
from .errors import REQUEST_FIELD

AGENTS = re.compile(r"(?:loopai-python|loopai-typescript|Loopai\.Client)/0\.1\.0(?![0-9.])", re.I)
"""The User-Agent of the SDKs 0.1.0."""

_NOT_FOUND = re.compile(r"(?:Task with ID|Program artifact version) .* not found")
_EXECUTION_PATH = re.compile(r"/api/v1/tasks/(?:[^/]+/)?execute")


def is_legacy(headers: Headers) -> bool:
    """Return whether the client is an SDK 0.1.0."""
    return AGENTS.match(headers.get("user-agent") or "") is not None


class LegacySend:
    """Sends a reply in that form; replies that are not this server's JSON are unchanged."""

    def __init__(self, send: Send, path: str) -> None:
        self._send = send
        self._path = path
        self._start: Message | None = None
        self._content = b""

    async def __call__(self, message: Message) -> None:
        """Keep the reply until it is whole, and send it on."""
        if message["type"] == "http.response.start":
            if not Headers(raw=message["headers"]).get("content-type", "").startswith("application/json"):
                await self._send(message)
                return
            self._start = message
            return
        if self._start is None:
            await self._send(message)
            return
        self._content += message.get("body", b"")
        if message.get("more_body", False):
            return
        start, self._start = self._start, None
        start["status"], content = translated(self._path, start["status"], self._content)
        MutableHeaders(scope=start)["content-length"] = str(len(content))
        await self._send(start)
        await self._send({"type": "http.response.body", "body": content})


def translated(path: str, status: int, content: bytes) -> tuple[int, bytes]:
    """Return status and body as the SDKs 0.1.0 expect them."""
    body = from_json(content)
    if status >= 400 and isinstance(body, dict):
        return _refusal(path, status, body)
    if isinstance(body, list):
        return status, to_json([_camel(item) if isinstance(item, dict) else item for item in body])
    if not isinstance(body, dict):
        return status, content
    if "execution_id" in body:
        # Their model of a result has no errors, and requires an output.
        body = {"id": body["execution_id"], "output": None, **body}
    if isinstance(body.get("results"), list):
        body = {**body, "results": [_camel({"execution_id": EMPTY_GUID, **item}) for item in body["results"]]}
    return status, to_json(_camel(body))


def _refusal(path: str, status: int, body: dict[str, Any]) -> tuple[int, bytes]:
    details = body.get("details")
    if status == 500 and _EXECUTION_PATH.fullmatch(path) and isinstance(details, str) and _NOT_FOUND.match(details):
        status, body = 404, {**body, "code": "NOT_FOUND", "message": details}
    if isinstance(details, list):
        errors: dict[str, list[str]] = {}
        for detail in details:
            errors.setdefault(_first_lower(detail["property_name"]), []).append(detail["error_message"])
        body = {**body, "errors": errors}
    elif isinstance(body.get("errors"), dict) and "message" not in body:
        errors = {name: texts for name, texts in body["errors"].items() if name not in REQUEST_FIELD}
        body = {**body, "message": body.get("title"), "errors": errors or body["errors"]}
    return status, to_json(_camel(body))


def _camel(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with member names in camelCase; the user's values are unchanged."""
    return {_camel_name(name): value for name, value in body.items()}


def _camel_name(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)


def _first_lower(name: str) -> str:
    return name[:1].lower() + name[1:]
