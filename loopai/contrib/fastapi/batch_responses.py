"""How a batch is answered: an error status if nothing can run, otherwise events during the upload."""

# ruff: noqa: FA100  # Optional, as pydantic and FastAPI read annotations of this package at run time
import asyncio
from contextlib import suppress
from typing import Optional

from starlette.types import Message, Receive, Scope, Send

from ...client import LoopaiClient
from ...problems import Problem
from .batch_document import Events
from .batch_formats import format_for
from .batch_runs import Asked, Options, Places, UploadRun
from .events import HEADERS
from .lifespan import STATE_KEY, LoopaiState
from .problems import problem_response
from .uploads import Gone, Upload, UploadError

BUSY_FOR = 5
"""Retry-After, in seconds, when `max_runs` batches are running."""

LAST_WORDS = 1.0
"""Seconds in which a run whose client seems to have disconnected may still end and send its summary: a server that
shuts down reports a disconnect, too."""


class BatchResponse(Events):
    """Reads the upload and sends events at the same time. The run ends when the client disconnects."""

    def __init__(self, client: LoopaiClient, options: Options, asked: Asked, places: Places, accept: str) -> None:
        self._format = format_for(accept, options.keep)
        super().__init__(headers={**HEADERS, "Vary": "Accept"}, media_type=self._format.media_type)
        # Of unknown length.
        del self.headers["content-length"]
        self._client, self._options, self._asked, self._places = client, options, asked, places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See Starlette's `Response`."""
        if not self._places.take():
            busy = Problem(title="Busy", status=503, detail="As many batches as allowed are running")
            await problem_response(busy, {"Retry-After": str(BUSY_FOR)})(scope, receive, send)
            return
        run = UploadRun(self._client, self._options, self._asked, self._format)
        state: Optional[LoopaiState] = scope.get("state", {}).get(STATE_KEY)
        try:
            if state is not None:
                state.add_batch(run.stop)
            await self._answer(run, scope, receive, send)
        finally:
            if state is not None:
                state.remove_batch(run.stop)
            run.close(self._places.give_back)

    async def _answer(self, run: UploadRun, scope: Scope, receive: Receive, send: Send) -> None:
        receiving = asyncio.ensure_future(_receive(receive, run, self._options.idle_timeout))
        working = asyncio.ensure_future(run.work())
        sending = asyncio.ensure_future(self._send(run, scope, receive, send))
        tasks = {receiving, working, sending}
        try:
            with suppress(Gone):
                try:
                    await _first_of({receiving, sending})
                finally:
                    # The client has disconnected, or the server cancels the response.
                    if not sending.done():
                        run.stop.grace = 0.0
                        run.stop()
                        run.upload.fail(Gone())
                        await asyncio.wait({working, sending}, timeout=LAST_WORDS)
        finally:
            run.upload.fail(Gone())
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception) and not isinstance(error, Gone):
                raise error

    async def _send(self, run: UploadRun, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(asyncio.TimeoutError):
            # A run that ends before its first row has an error status.
            await asyncio.wait_for(run.decided.wait(), self._options.heartbeat_every)
        if run.refusal is not None:
            await problem_response(*run.refusal)(scope, receive, send)
            return
        start: Message = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await self._write(send, run.upload, start)
        while (data := await run.outbox.take(self._options.heartbeat_every)) is not None:
            if data or self._format.heartbeat:
                body = data or self._format.heartbeat
                await self._write(send, run.upload, {"type": "http.response.body", "body": body, "more_body": True})
        await self._write(send, run.upload, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, send: Send, upload: Upload, message: Message) -> None:
        # A client may read nothing while it sends. Afterwards it would block one of `max_runs`.
        patience = self._options.idle_timeout if upload.over else None
        try:
            await asyncio.wait_for(send(message), patience)
        except (OSError, asyncio.TimeoutError):  # since ASGI 2.4, servers may report a disconnect so
            raise Gone from None


async def _receive(receive: Receive, run: UploadRun, idle_timeout: Optional[float]) -> None:
    """Write the body into the upload; return when the client has disconnected."""
    upload = run.upload
    waiting = asyncio.ensure_future(receive())
    writing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    try:
        while True:
            left = _left(run, idle_timeout)
            if left is not None and left <= 0:
                upload.fail(UploadError(f"nothing of the upload came for {idle_timeout:g} seconds", 408))
                idle_timeout = None
                continue
            await asyncio.wait({waiting}, timeout=left)
            if not waiting.done():
                continue
            message = waiting.result()
            if message["type"] == "http.disconnect":
                return
            run.received()
            part, more = message.get("body", b""), message.get("more_body", False)
            writing = asyncio.ensure_future(upload.write_part(part, more))
            # Receive while the part waits for room: the next message may be a disconnect.
            waiting = asyncio.ensure_future(receive())
            await asyncio.wait({writing, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not _gone(waiting):
                await writing
    finally:
        waiting.cancel()
        writing.cancel()


def _gone(waiting: "asyncio.Future[Message]") -> bool:
    return waiting.done() and waiting.exception() is None and waiting.result()["type"] == "http.disconnect"


def _left(run: UploadRun, idle_timeout: Optional[float]) -> Optional[float]:
    """Return how many more seconds the client may send nothing; None for no limit."""
    if idle_timeout is None or run.upload.over:
        return None
    idle = run.idle_for()
    return idle_timeout if idle is None else idle_timeout - idle


async def _first_of(tasks: "set[asyncio.Task[None]]") -> None:
    """Wait until one of them ends; raise its exception, if any."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
