"""What stands in for a published server, to try the suite: the embedded one without its additions.

Programs come from a generator service, inputs are not checked, and what is not in the published contract is 405.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import httpx
import uvicorn
from starlette.requests import Request
from starlette.responses import Response

from loopai.local.app import create_app
from loopai.local.settings import Settings

ADDITIONS = (
    ("GET", r"/api/v1/tasks/?"),
    ("GET", r"/api/v1/tasks/by-name/.*"),
    ("POST", r"/api/v1/tasks/[^/]+/artifacts"),
)


class Published:
    """An ASGI application."""

    def __init__(self, generator: str) -> None:
        self._app = create_app(Settings(check_inputs=False))
        self._inner = httpx.AsyncClient(transport=httpx.ASGITransport(self._app), base_url="http://inner")
        self._generator = generator
        self._descriptions: dict[str, str] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        path = request.url.path
        if any(request.method == verb and re.fullmatch(place, path) for verb, place in ADDITIONS):
            await Response(status_code=405, headers={"Allow": "POST"})(scope, receive, send)
            return
        body = await request.body()
        if path.endswith("/execute"):
            await self._generate(body)
        headers = [(name, value) for name, value in request.headers.items() if name != "host"]
        headers.append(("host", request.headers["host"]))
        reply = await self._inner.request(request.method, str(request.url), content=body, headers=headers)
        if request.method == "POST" and path.rstrip("/").endswith("/tasks") and reply.status_code == 201:
            self._descriptions[reply.json()["id"]] = reply.json()["description"]
        kept = {name: value for name, value in reply.headers.items() if name != "content-length"}
        await Response(reply.content, reply.status_code, kept)(scope, receive, send)

    async def _generate(self, body: bytes) -> None:
        """Ask for the program of a task's first execution."""
        try:
            description = self._descriptions.pop(json.loads(body)["task_id"].lower(), None)
        except (ValueError, KeyError, AttributeError):
            return  # the server says what is wrong with it
        if description is None or "CODE:" not in description:
            return
        async with httpx.AsyncClient() as client:
            reply = await client.post(f"{self._generator}/generate", json={"description": description})
        made = reply.json()
        program = {"code": made["code"], "language": made["language"]}
        task_id = json.loads(body)["task_id"]
        pushed = await self._inner.post(f"/api/v1/tasks/{task_id}/artifacts", json=program)
        assert pushed.status_code == 201, pushed.text


if __name__ == "__main__":
    uvicorn.run(Published(sys.argv[2]), port=int(sys.argv[1]), log_level="error")
