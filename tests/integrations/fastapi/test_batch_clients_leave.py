"""A client of `batch_router` that goes away: how soon the thread that reads its upload ends, and its place is free."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import threading
import time
from typing import Any

import pytest
from fastapi import FastAPI

from loopai.contrib.fastapi import LoopaiLifespan, LoopaiSettings, batch_router
from loopai.contrib.fastapi.testing import running
from loopai.contrib.fastapi.uploads import Gone, Limits, Rows, Upload

MB = 1_000_000
FORM = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.%s"\r\n\r\n'


def packed(*parts: tuple[bytes, int]) -> bytes:
    """Gzip of each part, so many times, made at once: a gzip file may have many members."""
    return b"".join(gzip.compress(part, 1) * times for part, times in parts)


OBJECTS = b'{"x":[' + b'{"":0},' * 140_000 + b"0]},"

# Each keeps a thread busy for many seconds.
UPLOADS = {
    "blank lines": ("", "jsonl", lambda: packed((b"\n" * MB, 900))),
    "blank lines, gzipped twice": ("", "jsonl", lambda: packed((packed((b"\n" * MB, 900)), 1))),
    "blank lines of CSV": ("", "csv", lambda: packed((b"a,b\n", 1), (b"\n" * MB, 900))),
    "an endless quoted field": ("", "csv", lambda: packed((b'a,b\n1,"', 1), (b"\n" * MB, 900))),
    "lines that are not JSON": ("", "jsonl", lambda: packed((b"{}\n", 1), (b"x\n" * MB, 100))),
    "an array of objects": ("", "json", lambda: packed((b"[", 1), (OBJECTS, 300))),
    "an array of blanks": ("", "json", lambda: packed((b"[", 1), (b" " * MB, 900))),
    "an array of commas": ("", "json", lambda: packed((b"[", 1), (b"," * MB, 900))),
    "an array of quotes": ("", "json", lambda: packed((b'[{"x":', 1), (b'""' * MB, 450))),
    "an array of escapes": ("", "json", lambda: packed((b'[{"x":"', 1), (b'\\"' * MB, 450))),
    "brackets": ("", "json", lambda: packed((b"[" * MB, 900))),
    "empty gzip members": ("", "jsonl", lambda: packed((b"", 1_000_000))),
    "empty gzip members, gzipped": ("", "jsonl", lambda: packed((packed((b"", 500_000)), 20))),
    "zeros after a gzip member": ("", "jsonl", lambda: packed((b"{}\n", 1)) + bytes(50 * MB)),
    "a gzip header that does not end": (
        "", "jsonl", lambda: packed((b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * MB, 1), (b"x" * MB, 300))
    ),
    "a form's file": (FORM, None, lambda: PART % b"jsonl.gz" + packed((b"\n" * MB, 900)) + b"\r\n--b--\r\n"),
    "a form's file that looks like boundaries": (FORM, None, lambda: PART % b"jsonl" + b"{}" + b"\r\n-" * 10 * MB),
    "a form of empty parts": (FORM, None, lambda: b"--b\r\nA: b\r\n\r\n\r\n" * 2 * MB),
}  # fmt: skip


@pytest.mark.parametrize("name", UPLOADS)
async def test_the_thread_soon_ends(name) -> None:
    """Whatever it reads, of the many seconds it would work: as CPU time of the thread alone, as machines are busy.

    It needs some 50 ms; the limit leaves room for slow machines and for tracing.
    """
    content_type, kind, make = UPLOADS[name]
    upload = Upload(1 << 40)
    rows = Rows(upload, content_type, kind, Limits(1 << 40, 1 << 40, MB, float("inf")))
    ended: list[BaseException] = []
    took: list[float] = []

    def read() -> None:
        try:
            while list(itertools.islice(rows, 100)):
                pass
        except Gone as gone:
            ended.append(gone)
        took.append(time.thread_time())

    def busy() -> float:
        """Seconds of CPU that the thread has used; `took`, once it has ended."""
        try:
            return time.clock_gettime(clock)
        except OSError:
            return took[0]

    async def write() -> None:
        content = memoryview(make())
        for start in range(0, len(content), 65536):
            await upload.write_part(bytes(content[start : start + 65536]), start + 65536 < len(content))

    thread = threading.Thread(target=read)
    thread.start()
    assert thread.ident is not None
    clock = time.pthread_getcpuclockid(thread.ident)
    writing = asyncio.ensure_future(write())
    while busy() < 0.05:
        assert not ended
        await asyncio.sleep(0)
    before = busy()
    upload.fail(Gone())
    await asyncio.to_thread(thread.join)
    writing.cancel()
    assert ended
    assert took[0] - before < 1


class Upstream:
    """A server that never answers."""

    async def asend(self, request: Any) -> Any:
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        pass


async def test_a_client_leaves_while_there_is_no_room_for_its_upload() -> None:
    """It is noticed though the rest of the upload waits for rows that do not end."""
    app = FastAPI(lifespan=LoopaiLifespan(LoopaiSettings(transport=Upstream(), close_grace=0)))
    app.include_router(batch_router("7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60", max_in_flight=1, chunk_size=10))
    row = b'{"text": "' + b"x" * 1000 + b'"}\n'
    messages: list[Any] = [{"type": "http.disconnect"}, {"type": "http.request", "body": row * 2000, "more_body": True}]

    async def receive() -> Any:
        return messages.pop()

    async def send(message: Any) -> None:
        pass

    scope = {
        "type": "http", "method": "POST", "path": "/batch", "raw_path": b"/batch", "root_path": "", "scheme": "http",
        "query_string": b"format=jsonl", "http_version": "1.1", "asgi": {"version": "3.0", "spec_version": "2.4"},
        "headers": [], "server": ("app", 80), "client": ("peer", 1),
    }  # fmt: skip
    async with running(app) as served:
        await asyncio.wait_for(served(scope, receive, send), 20)
