"""Send `execute` calls made at the same moment for the same task as one batch request.

There are two coalescers: one collects the calls of one iteration of an event loop, one those of threads. Sending and
reading the request of a group is an operation like any other.
"""

from __future__ import annotations

import asyncio
import copy
import os
import threading
import time
import weakref
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, Callable, Generic, NamedTuple, Optional, TypeVar, Union

from . import models
from ._core.checking import InputsRefused
from ._core.limits import MOST_CONCURRENCY
from ._core.operations import Operation, execute_group
from ._core.resending import Unanswered
from .exceptions import ConnectionException, LoopaiException

LARGEST_GROUP = MOST_CONCURRENCY
"""Most items of a group: as many as the server runs at once (`max_concurrency`), so that none waits."""

LARGEST_BODY = 1_000_000
"""Bytes of inputs after which a group is sent; far below the server's 30,000,000 a request."""

GATHERING = 0.0005
"""Seconds that a thread waits for others to join, if others are already calling."""

Results = models.ReplyList[models.ExecutionResult]
Ended = Union[models.ExecutionResult, LoopaiException]
"""What a call returns or raises."""

W = TypeVar("W")


class Key(NamedTuple):
    """What calls must have in common to be sent together."""

    task_id: str
    version: Optional[int]
    timeout_ms: Optional[int]
    force_validation: bool


class JoinedInput(NamedTuple):
    """An encoded input, and what the hooks recorded about its caller."""

    content: bytes
    caller: Mapping[Any, Any]


class _Group(Generic[W]):
    """Encoded inputs that are sent together, and the waiting caller of each."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.members: list[tuple[JoinedInput, W]] = []
        self.size = 0

    def add(self, given: JoinedInput, waiter: W) -> None:
        self.members.append((given, waiter))
        self.size += len(given.content)

    def has_room_for(self, content: bytes, most: int) -> bool:
        return len(self.members) < most and self.size + len(content) <= LARGEST_BODY

    def inputs(self) -> list[JoinedInput]:
        return [given for given, _ in self.members]


def _operation(key: Key, inputs: list[JoinedInput]) -> Operation[Results]:
    operation = execute_group(key.task_id, [each.content for each in inputs], *key[1:])
    operation.callers = [each.caller for each in inputs if each.caller]
    return operation


def nobody() -> Mapping[Any, Any]:
    """Record nothing about a caller: there are no hooks."""
    return {}


def _own(result: models.ExecutionResult, results: Results) -> models.ExecutionResult:
    object.__setattr__(result, "_reply", results.reply)
    return result


def _own_error(error: LoopaiException) -> LoopaiException:
    """Return a copy of the error for one of several callers, so that each has its own traceback."""
    mine = copy.copy(error)
    mine.__cause__ = error.__cause__
    return mine


def _fitting(inputs: list[JoinedInput], error: InputsRefused) -> list[JoinedInput]:
    return [given for place, given in enumerate(inputs) if place not in error.refused]


def _in_their_places(count: int, error: InputsRefused, others: Iterable[Ended]) -> list[Ended]:
    rest = iter(others)
    return [error.refused[place] if place in error.refused else next(rest) for place in range(count)]


def _halves(inputs: list[JoinedInput], error: Unanswered) -> tuple[list[JoinedInput], list[JoinedInput]]:
    left = [inputs[place] for place in error.left]
    return left[: len(left) // 2], left[len(left) // 2 :]


def _put_together(error: Unanswered, others: Iterable[Ended]) -> list[Ended]:
    """Return the result of every item; `others` are the results of those that were left."""
    rest = dict(zip(error.left, others))
    if error.results is None:
        return [rest[place] for place in sorted(rest)]
    return [rest[place] if place in rest else _own(result, error.results) for place, result in enumerate(error.results)]


class _LoopGroup(_Group["asyncio.Future[models.ExecutionResult]"]):
    task: Optional[asyncio.Task[None]] = None


class Coalescer:
    """Collects the calls of one iteration of an event loop, separately for each loop."""

    def __init__(
        self,
        run: Callable[[Operation[Results]], Awaitable[Results]],
        joined: Callable[[], Mapping[Any, Any]] = nobody,
        most: Callable[[], int] = lambda: LARGEST_GROUP,
    ) -> None:
        self._run = run
        self._joined = joined
        self._most = most
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Key, _LoopGroup]]
        self._loops = weakref.WeakKeyDictionary()

    async def execute(self, key: Key, content: bytes) -> models.ExecutionResult:
        """Run one encoded input. Raises what the request of its group raises, but no error of another item."""
        loop = asyncio.get_running_loop()
        gathering = self._loops.get(loop)
        if gathering is None:
            gathering = self._loops[loop] = {}
        group = gathering.get(key)
        if group is None or not group.has_room_for(content, self._most()):
            if group is not None:
                self._send(gathering, group)
            group = gathering[key] = _LoopGroup(key)
            loop.call_soon(self._send, gathering, group)
        waiter: asyncio.Future[models.ExecutionResult] = loop.create_future()
        group.add(JoinedInput(content, self._joined()), waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            waiter.cancel()
            if group.task is not None and all(other.done() for _, other in group.members):
                group.task.cancel()
            raise

    def _send(self, gathering: dict[Key, _LoopGroup], group: _LoopGroup) -> None:
        if group.task is not None:
            return
        if gathering.get(group.key) is group:
            del gathering[group.key]
        group.members = [(given, waiter) for given, waiter in group.members if not waiter.done()]
        if group.members:
            # The loop keeps only weak references to tasks: the callers' frames keep the group, and the group its task.
            group.task = asyncio.get_running_loop().create_task(self._exchange(group))

    async def _exchange(self, group: _LoopGroup) -> None:
        try:
            each = await self._each(group.key, group.inputs())
        except BaseException as error:
            # Passed on to the callers, and a cancellation of this task cancels theirs.
            for _, waiter in group.members:
                if not waiter.done():
                    if isinstance(error, asyncio.CancelledError):
                        waiter.cancel()
                    else:
                        waiter.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            for (_, waiter), result in zip(group.members, each):
                if waiter.done():
                    continue
                if isinstance(result, LoopaiException):
                    waiter.set_exception(result)
                else:
                    waiter.set_result(result)

    async def _each(self, key: Key, inputs: list[JoinedInput]) -> list[Ended]:
        """Return the result or the error of each input. If one output prevents a reply, the rest is sent in halves."""
        try:
            results = await self._run(_operation(key, inputs))
        except InputsRefused as error:
            fitting = _fitting(inputs, error)
            return _in_their_places(len(inputs), error, await self._each(key, fitting) if fitting else [])
        except Unanswered as error:
            if len(error.left) == 1:
                return _put_together(error, [error.error])
            first, second = _halves(inputs, error)
            return _put_together(error, [*await self._each(key, first), *await self._each(key, second)])
        except LoopaiException as error:
            return [_own_error(error) for _ in inputs]
        return [_own(result, results) for result in results]


class _ThreadGroup(_Group[None]):
    def __init__(self, key: Key) -> None:
        super().__init__(key)
        self.done = threading.Event()
        self.results: Optional[list[Ended]] = None
        self.error: Optional[BaseException] = None


class SyncCoalescer:
    """Collects the calls of threads: the first one sends for those that joined, and distributes the results."""

    def __init__(
        self,
        run: Callable[[Operation[Results]], Results],
        joined: Callable[[], Mapping[Any, Any]] = nobody,
        most: Callable[[], int] = lambda: LARGEST_GROUP,
    ) -> None:
        self._run = run
        self._joined = joined
        self._most = most
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._gathering: dict[Key, _ThreadGroup] = {}
        self._calling: dict[Key, int] = {}

    def execute(self, key: Key, content: bytes) -> models.ExecutionResult:
        """Run one encoded input. Raises what the request of its group raises, but no error of another item."""
        if self._pid != os.getpid():  # after a fork, the parent's threads and the locks they held do not exist here
            self._reset()
        given = JoinedInput(content, self._joined())
        with self._lock:
            others = self._calling.get(key, 0)
            self._calling[key] = others + 1
            group = self._gathering.get(key)
            leads = group is None or not group.has_room_for(content, self._most())
            if group is None or leads:
                group = self._gathering[key] = _ThreadGroup(key)
            place = len(group.members)
            group.add(given, None)
        try:
            if leads:
                self._lead(group, alone=others == 0)
            else:
                group.done.wait()
        finally:
            with self._lock:
                self._calling[key] -= 1
                if not self._calling[key]:
                    del self._calling[key]
        if group.results is not None:
            result = group.results[place]
            if isinstance(result, LoopaiException):
                raise result
            return result
        if isinstance(group.error, Exception):  # from the configuration, a hook or the function that returns the key
            raise group.error
        # The sending thread was interrupted (KeyboardInterrupt, SystemExit), which does not concern the others.
        raise ConnectionException(
            "the thread that sent this call with its own was interrupted: execute it again",
            original_exception=group.error,
        )

    def _lead(self, group: _ThreadGroup, *, alone: bool) -> None:
        try:
            if not alone:
                time.sleep(GATHERING)
            self._close(group)
            group.results = self._each(group.key, group.inputs())
        except BaseException as error:
            group.error = error
            raise
        finally:
            self._close(group)
            group.done.set()

    def _each(self, key: Key, inputs: list[JoinedInput]) -> list[Ended]:
        """Like that of `Coalescer`."""
        try:
            results = self._run(_operation(key, inputs))
        except InputsRefused as error:
            fitting = _fitting(inputs, error)
            return _in_their_places(len(inputs), error, self._each(key, fitting) if fitting else [])
        except Unanswered as error:
            if len(error.left) == 1:
                return _put_together(error, [error.error])
            first, second = _halves(inputs, error)
            return _put_together(error, [*self._each(key, first), *self._each(key, second)])
        except LoopaiException as error:
            return [_own_error(error) for _ in inputs]
        return [_own(result, results) for result in results]

    def _close(self, group: _ThreadGroup) -> None:
        with self._lock:
            if self._gathering.get(group.key) is group:
                del self._gathering[group.key]
