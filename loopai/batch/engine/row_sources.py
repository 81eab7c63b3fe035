"""Where a run's rows come from: the caller's iterable, pulled in its own thread or task, or files, read in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, Iterable
from typing import Any, Callable, Optional

from .driver import Pulled


class CallerRows:
    """A caller's iterable, read in the thread that pulls."""

    def __init__(self, values: Iterable[Any]) -> None:
        self._values = iter(values)
        # An iterator that the caller passed is the caller's to close.
        self._ours = self._values is not values

    def pull(self, most: int) -> Pulled:
        """Return the next rows, at most `most`."""
        values = []
        for value in self._values:
            values.append(value)
            if len(values) >= most:
                return Pulled(values, ended=False)
        return Pulled(values, ended=True)

    def close(self) -> None:
        """Close the iterator, if it was made here."""
        close = getattr(self._values, "close", None)
        if self._ours and close is not None:
            close()


class ThreadRows:
    """Rows of a file or pipe, read ahead in a separate thread. `wake` is called when rows are available again.

    With `may_block`, the thread may be waiting for a writer, and closing does not wait for it.
    """

    def __init__(self, values: Iterable[Any], ahead: int, wake: Callable[[], None], *, may_block: bool) -> None:
        self._values = values
        self._ahead = ahead
        self._wake = wake
        self._may_block = may_block
        self._buffer: deque[Any] = deque()
        self._room = threading.Event()
        self._exhausted = False
        self._error: Optional[BaseException] = None
        self._closed = False
        self._hungry = True
        self._thread = threading.Thread(target=self._read, name="loopai-batch-rows", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for value in self._values:
                self._buffer.append(value)
                if self._hungry:
                    self._hungry = False
                    self._wake()
                while len(self._buffer) >= self._ahead and not self._closed:
                    self._room.clear()
                    if len(self._buffer) >= self._ahead and not self._closed:
                        self._room.wait()
                if self._closed:
                    return
        except BaseException as error:  # noqa: BLE001  # raised again where the rows are pulled
            self._error = error
        self._exhausted = True
        self._wake()

    def pull(self, most: int) -> Pulled:
        """Return the available rows, at most `most`. Raises what reading raised, after the last row before it."""
        self._hungry = True
        # Check this first: rows that are appended afterwards are returned now or by the next pull.
        exhausted = self._exhausted
        values = [self._buffer.popleft() for _ in range(min(most, len(self._buffer)))]
        self._room.set()
        if exhausted and not values and self._error is not None:
            raise self._error
        return Pulled(values, ended=exhausted and not self._buffer and self._error is None)

    def close(self) -> None:
        """Stop reading, and close the file. Blocks for the row being read."""
        self._closed = True
        self._room.set()
        if not self._may_block:
            self._thread.join()


class AsyncRows:
    """A caller's asynchronous iterable, read by a task, so that replies do not wait for the next row."""

    def __init__(self, values: AsyncIterable[Any], ahead: int, wake: Callable[[], None]) -> None:
        self._values = values
        # An iterator that the caller passed is the caller's to close.
        self._iterator = values.__aiter__()
        self._ahead = ahead
        self._wake = wake
        self._buffer: deque[Any] = deque()
        self._room = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._read())
        self._task.add_done_callback(lambda _: wake())

    async def _read(self) -> None:
        async for value in self._iterator:
            self._buffer.append(value)
            self._wake()
            while len(self._buffer) >= self._ahead:
                self._room.clear()
                await self._room.wait()

    def pull(self, most: int) -> Pulled:
        """Return the available rows, at most `most`. Raises what the iterable raised, after the last row before it."""
        values = [self._buffer.popleft() for _ in range(min(most, len(self._buffer)))]
        self._room.set()
        done = self._task.done()
        if done and not values:
            self._task.result()
        return Pulled(values, ended=done and not self._buffer and self._task.exception() is None)

    async def aclose(self) -> None:
        """Stop pulling, and close the iterator if it was made here."""
        self._task.cancel()
        await asyncio.wait({self._task})
        close = getattr(self._iterator, "aclose", None)
        if self._iterator is not self._values and close is not None:
            await close()
