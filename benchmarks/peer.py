"""A server that answers executions and batches with canned replies, in a separate process; it measures nothing.

`running()` starts it and returns its address; started as a program, its argument is the seconds that each reply takes.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

TASK_ID = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"
# Members, spelling and precision are those of a real server.
EXECUTION = b"""{"execution_id":"c2d3e4f5-0617-4283-9a4b-5c6d7e8f9012","task_id":"%b",\
"program_id":"0b9e8d7c-6a5b-4c3d-9e2f-1a0b9c8d7e6f","version":1,"status":"success","output":{"label":"spam"},\
"latency_ms":87.4213,"sampled_for_validation":false,"executed_at":"2025-11-03T08:16:05.9081726Z"}"""
ITEM = b"""{"id":%b,"execution_id":"c2d3e4f5-0617-4283-9a4b-5c6d7e8f9012","success":true,"output":{"label":"spam"},\
"latency_ms":86.5,"sampled_for_validation":false}"""
BATCH = b"""{"batch_id":"5a6b7c8d-9e0f-4a1b-8c2d-3e4f50617283","task_id":"%b","version":0,"total_items":%d,\
"success_count":%d,"failure_count":0,"total_duration_ms":171.9,"avg_latency_ms":85.25,"results":[%b],\
"started_at":"2025-11-03T08:17:00.1000001Z","completed_at":"2025-11-03T08:17:00.2719871Z"}"""


def response(body: bytes) -> bytes:
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


ONE = response(EXECUTION % TASK_ID.encode())
TASK = response(b'{"id":"%b","name":"spam","description":"","created_at":"2025-11-03T08:14:07Z"}' % TASK_ID.encode())
ARTIFACTS = response(b"[]")


def batch(content: bytes) -> bytes:
    ids = [json.dumps(item["id"]).encode() for item in json.loads(content)["items"]]
    return response(BATCH % (TASK_ID.encode(), len(ids), len(ids), b",".join(ITEM % name for name in ids)))


class Connection(asyncio.Protocol):
    """The minimal HTTP that its clients need: requests with a length, one after another."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.received = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        while True:
            head, end, rest = self.received.partition(b"\r\n\r\n")
            if not end:
                return
            _, _, told = head.lower().partition(b"content-length:")
            length = int(told.partition(b"\r\n")[0] or 0)
            if len(rest) < length:
                return
            body, self.received = rest[:length], rest[length:]
            if b"/batch/execute" in head[:60]:
                reply = batch(body)
            elif head.startswith(b"GET"):
                reply = ARTIFACTS if b"/artifacts " in head[:100] else TASK
            else:
                reply = ONE
            if self.delay:
                asyncio.get_running_loop().call_later(self.delay, self.transport.write, reply)
            else:
                self.transport.write(reply)


async def serve(delay: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(delay), "127.0.0.1", 0, backlog=2000)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    ended = asyncio.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait_for_end, daemon=True).start()
    await ended.wait()
    server.close()


@contextmanager
def running(delay: float = 0.0) -> Iterator[str]:
    command = [sys.executable, "-m", __name__, str(delay)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.communicate()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
