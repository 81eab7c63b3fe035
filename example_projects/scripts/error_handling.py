"""Provoke every kind of error: what raises it, and which attributes it has.

Uses the server at `LOOPAI_BASE_URL`, or an embedded one if that is not set; and, for faults that no good server has, a
small misbehaving server on this machine.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from loopai import (
    AuthenticationException,
    ConfigurationError,
    ConflictException,
    ConnectionException,
    ExecutionException,
    LoopaiException,
    NotFoundException,
    NotSupportedException,
    RateLimitException,
    ReplyTooLargeException,
    ServerException,
    SyncLoopaiClient,
    TimeoutException,
    ValidationException,
)

NOBODY = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"
PROGRAM = """
def main(input):
    return {"half": 10 / input["number"]}
"""


class Misbehaving(BaseHTTPRequestHandler):
    """Answers by the first part of the path: /busy/…, /locked/…, /broken/…, /large/…, and with 404 otherwise."""

    ANSWERS = {
        "busy": (429, {"Retry-After": "7"}, b'{"code": "RATE_LIMIT_EXCEEDED", "message": "too many requests"}'),
        "locked": (401, {}, b'{"code": "UNAUTHORIZED", "message": "the key is wrong"}'),
        "broken": (502, {"Content-Type": "text/html"}, b"<html>Bad Gateway</html>"),
        "large": (200, {"Content-Type": "application/json"}, b'{"status": "' + b"x" * 2000 + b'"}'),
    }

    def do_GET(self) -> None:  # the name http.server looks for
        status, headers, body = self.ANSWERS.get(self.path.split("/")[1], (404, {}, b""))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Do not log each request."""


@contextmanager
def misbehaving() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def provoke(call: Callable[[], object], expected: type[LoopaiException]) -> LoopaiException:
    """The exception that `call` raises, which must be of the class `expected` itself."""
    try:
        call()
    except LoopaiException as error:
        if type(error) is not expected:
            raise
        print(f"{expected.__name__}: {error.message}")
        return error
    raise AssertionError(f"{expected.__name__} was expected, and nothing was raised")


def of_the_task(client: SyncLoopaiClient) -> None:
    """What a server says about requests and programs."""
    schema = {"type": "object", "properties": {"number": {"type": "number"}}, "required": ["number"]}
    name = f"half-{uuid.uuid4().hex[:8]}"
    task = client.create_task(name, "Divide ten by a number", schema, {"type": "object"})

    error = provoke(lambda: client.create_task("", "No name", schema, schema), ValidationException)
    if isinstance(error, ValidationException):
        print(f"  status {error.status_code}, by field: {error.errors}")

    error = provoke(lambda: client.get_task(NOBODY), NotFoundException)
    print(f"  asked: {error.request}, code {error.code}, trace {error.trace_id}")

    provoke(lambda: client.create_task(name, "The same name again", schema, schema), ConflictException)

    client.push_program(task.id, PROGRAM)
    error = provoke(lambda: client.execute(task.id, {"number": 0}), ExecutionException)
    if isinstance(error, ExecutionException):
        print(f"  execution {error.execution_id} ended with status {error.result.status!r}")
    result = client.execute(task.id, {"number": 0}, raise_on_error=False)
    print(f"  as a result instead: {result.status!r}, {result.error_message!r}")

    # The server checks inputs against the task's schema.
    error = provoke(lambda: client.execute(task.id, {"number": "four"}), ValidationException)
    if isinstance(error, ValidationException):
        print(f"  by field: {error.errors}")


def of_other_servers(address: str) -> None:
    """Failures of servers, proxies and networks."""
    with SyncLoopaiClient(f"{address}/busy", max_retries=0) as client:
        error = provoke(client.get_health, RateLimitException)
        if isinstance(error, RateLimitException):
            print(f"  to be asked again in {error.retry_after:.0f} s")

    with SyncLoopaiClient(f"{address}/locked", api_key="not-the-key") as client:
        provoke(client.get_health, AuthenticationException)

    with SyncLoopaiClient(f"{address}/broken", max_retries=0) as client:
        error = provoke(client.get_health, ServerException)
        print(f"  status {error.status_code}, the body began with {error.response!r}")

    with SyncLoopaiClient(f"{address}/large", max_reply_bytes=1000) as client:
        provoke(client.get_health, ReplyTooLargeException)

    with SyncLoopaiClient(f"{address}/other") as client:
        provoke(client.list_tasks, NotSupportedException)

    # A port without a listener, and one that never answers.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        there = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with SyncLoopaiClient(there, max_retries=0) as client:
            error = provoke(client.get_health, ConnectionException)
            if isinstance(error, ConnectionException):
                print(f"  because of {error.original_exception!r}")
            silent.listen()
            provoke(client.with_options(timeout=0.2).get_health, TimeoutException)


def main() -> None:
    embedded = not os.environ.get("LOOPAI_BASE_URL")
    with SyncLoopaiClient.local() if embedded else SyncLoopaiClient() as client:
        of_the_task(client)
    with misbehaving() as address:
        of_other_servers(address)

    # Wrong settings are no LoopaiException, so that no `except LoopaiException` hides them.
    try:
        SyncLoopaiClient("localhost:8080")
    except ConfigurationError as wrong:
        print(f"ConfigurationError: {wrong}")


if __name__ == "__main__":
    main()
