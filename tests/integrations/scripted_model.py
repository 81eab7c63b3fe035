"""A language model behind an OpenAI-compatible endpoint, which answers what a test says, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Optional, Union

KEY = "sk-secret-4711"


@dataclass
class Said:
    """One answer. `content` is the model's text; `body` stands for the whole reply; `cut` ends the connection early.

    Nothing of it is sent before `after` is set.
    """

    content: Optional[str] = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Optional[Any] = None
    cut: bool = False
    hang: bool = False
    after: Optional[threading.Event] = None
    finish: str = "stop"
    usage: Optional[dict[str, Any]] = field(default_factory=lambda: {"prompt_tokens": 1000, "completion_tokens": 200})

    def reply(self) -> bytes:
        if self.body is not None:
            return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        if self.status >= 400:
            return json.dumps({"error": {"message": self.content, "type": "e", "code": None}}).encode()
        message = {"role": "assistant", "content": self.content}
        choice = {"index": 0, "message": message, "finish_reason": self.finish}
        return json.dumps({"id": "c", "object": "chat.completion", "choices": [choice], "usage": self.usage}).encode()


class ScriptedModel:
    """The endpoint: `base_url`, the requests that came, and what is still to be said; the last answer is repeated."""

    def __init__(self, *script: Union[str, Said]) -> None:
        self.script = [said if isinstance(said, Said) else Said(said) for said in script]
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.base_url = ""
        self.over = threading.Event()

    def prompts(self) -> list[str]:
        """The text of each request's messages."""
        return ["\n".join(message["content"] for message in request["messages"]) for request in self.requests]

    def said(self) -> Said:
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


@contextmanager
def scripted(*script: Union[str, Said]) -> Iterator[ScriptedModel]:
    """The endpoint on a free port of this machine."""
    model = ScriptedModel(*script)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name that http.server wants
            model.requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            model.headers.append({name.lower(): text for name, text in self.headers.items()} | {":path": self.path})
            said = model.said()
            reply = said.reply()
            if said.after is not None:
                said.after.wait()
            self.send_response(said.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(reply) + (100 if said.cut or said.hang else 0)))
            for name, text in said.headers.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(reply[: len(reply) // 2] if said.cut or said.hang else reply)
            self.wfile.flush()
            if said.hang:
                model.over.wait()

        def log_message(self, *_: Any) -> None:
            """Say nothing: a test's output is the test's."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        model.base_url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield model
        finally:
            model.over.set()
            server.shutdown()
            thread.join()


def block(code: str) -> str:
    """An answer of a model that does as it is told."""
    return f"```python\n{code}\n```"
