"""A stub of the generator service that a published server asks for its programs.

It answers with the program that stands after `CODE:` in the task's description, in TypeScript, and fails where there is
none. Run as a script with a port, it serves until it is stopped.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def program_for(request: dict[str, Any]) -> dict[str, Any]:
    """The generator's answer to a request of the server."""
    _, found, code = request["description"].partition("CODE:")
    if not found:
        return {"success": False, "error_message": "the description has no CODE:"}
    metrics = {"lines_of_code": len(code.splitlines()), "cyclomatic_complexity": 1, "estimated_tokens": len(code) // 4}
    return {"success": True, "code": code, "language": "typescript", "complexity": metrics}


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:  # the name that http.server wants
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = json.dumps(program_for(request)).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Say nothing: a test's output is the test's."""


@contextmanager
def generating(port: int) -> Iterator[int]:
    """The stub on a port of this machine, 0 for a free one; gives the port."""
    with ThreadingHTTPServer(("127.0.0.1", port), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    with generating(int(sys.argv[1])):
        threading.Event().wait()
