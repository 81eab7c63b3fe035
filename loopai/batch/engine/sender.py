"""What a client provides to the engine: sending one request, and calling its hooks."""

from __future__ import annotations

from typing import Any, Callable, Optional, Protocol, Union

from ..._core.checking import InputsRefused, text_of
from ..._core.first_executions import OneItemFirst
from ..._core.hooks import CallInfo
from ..._core.operations import Operation
from ..._core.unrun import ItemConcurrency
from ..rows import PROGRAM
from .chunks import AloneFirst, Answer, BatchCall, Chunk, Replies, TooLarge, Unsendable, prepared, was_not_run


class Sender(Protocol):
    """How a client sends the requests of one run. `batch_sender(client)` returns one.

    `items` is what the client knows about the server's concurrency; `resends` says whether a row that the server
    reported as not run, but may have run, is sent again.
    """

    items: ItemConcurrency
    resends: bool

    def begin(self, batch: CallInfo) -> Callable[[Operation[Any]], Any]:
        """Tell the hooks that a run starts. Return a function that sends one request, in one attempt.

        It returns the reply, or raises `LoopaiException`, or `OneItemFirst` if one row must be sent alone first. With
        an asynchronous client it returns an awaitable.
        """

    def end(self, error: Optional[BaseException]) -> None:
        """Tell the hooks that the run has ended; `error` is what ended it early."""

    def read_task(self, task_id: str) -> Any:
        """Return the task, or an awaitable of it (asynchronous client). Raises `LoopaiException`."""


class Requests:
    """The requests of one run, over a client's `Sender`."""

    def __init__(self, sender: Sender, call: BatchCall) -> None:
        self._sender = sender
        self._call = call
        self._send = sender.begin(CallInfo("batch", "POST", "/api/v1/batch/execute", call.task_id, call.version, 0))

    def send(self, chunk: Chunk) -> Answer:
        """Send a chunk through a synchronous client. Return its replies, or why it was not sent."""
        operation = self._prepared(chunk)
        if isinstance(operation, (TooLarge, Unsendable)):
            return operation
        try:
            return self._noted(self._send(operation))
        except InputsRefused as error:
            return _refused(error)
        except OneItemFirst:
            return AloneFirst()

    async def asend(self, chunk: Chunk) -> Answer:
        """Send a chunk through an asynchronous client. Return its replies, or why it was not sent."""
        operation = self._prepared(chunk)
        if isinstance(operation, (TooLarge, Unsendable)):
            return operation
        try:
            return self._noted(await self._send(operation))
        except InputsRefused as error:
            return _refused(error)
        except OneItemFirst:
            return AloneFirst()

    def _prepared(self, chunk: Chunk) -> Union[Operation[Replies], TooLarge, Unsendable]:
        # Another reply may have arrived since the chunk was made.
        if chunk.concurrency is not None:
            chunk.concurrency = self._sender.items.allowed(chunk.concurrency)
        return prepared(chunk, self._call)

    def _noted(self, replies: Replies) -> Replies:
        """Record at once that the server failed to run an item: the driver may send more before it sees the reply."""
        if not self._sender.items.one:
            unrun = next((result for result in replies.results if not result["success"] and was_not_run(result)), None)
            if unrun is not None:
                self._sender.items.failed(str(unrun["error_message"]))
        return replies

    def output_schema(self) -> Any:
        """Return the task's output schema, through a synchronous client."""
        return self._sender.read_task(self._call.task_id).output_schema

    async def aoutput_schema(self) -> Any:
        """Return the task's output schema, through an asynchronous client."""
        return (await self._sender.read_task(self._call.task_id)).output_schema

    def end(self, error: Optional[BaseException]) -> None:
        """Tell the client's hooks that the run is over."""
        self._sender.end(error)


def _refused(error: InputsRefused) -> Unsendable:
    """Return rows that fail in the same way as those that the embedded server's input check refuses."""
    return Unsendable({place: text_of(refusal) for place, refusal in error.refused.items()}, PROGRAM)
