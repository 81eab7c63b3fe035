"""Unknown tasks and versions: the published server does not report them for executions, so look them up afterwards."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Optional, TypeVar, Union

from ..exceptions import ExecutionException, LoopaiException, NotFoundException
from ..models import ProgramArtifact
from . import operations
from .flow import Policy, Steps, call
from .operations import Operation

T = TypeVar("T")
Key = tuple[str, Optional[int]]

REMEMBERED_SECONDS = 60.0
"""Seconds that an answer is cached: a task that is created meanwhile is found soon."""

MOST_REMEMBERED = 1000


class LookUps:
    """What a client knows about tasks and versions, cached for a minute. Thread-safe."""

    def __init__(self) -> None:
        self._known: dict[Key, tuple[float, Optional[NotFoundException]]] = {}
        self._lock = threading.Lock()

    def recall(self, key: Key, now: float) -> Union[NotFoundException, bool, None]:
        """Return the exception to raise, `None` if task and version exist, False if unknown."""
        with self._lock:
            until, error = self._known.get(key, (0.0, None))
        return error if now < until else False

    def note(self, key: Key, error: Optional[NotFoundException], now: float) -> None:
        """Cache an answer."""
        with self._lock:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[key] = now + REMEMBERED_SECONDS, error


def explained(
    flow: Steps[T], operation: Operation[T], policy: Policy, known: LookUps, began: Optional[float] = None
) -> Steps[T]:
    """Make the call; if it fails like an execution of an unknown task, find out whether that is the reason.

    Raises `NotFoundException` for a task or version that the server does not have. If the look-up fails, or both
    exist, the original error is raised. `began` is as for `call`.
    """
    began = policy.clock() if began is None else began
    try:
        return (yield from flow)
    except ExecutionException as error:
        if error.status_code != 500 or error.code != "EXECUTION_ERROR" or type(operation.task_id) is not str:
            raise
        failure = error
    key = operation.task_id, operation.version
    found = known.recall(key, policy.clock())
    if found is False:
        found = yield from _look_up(operation.task_id, operation.version, policy, began)
        known.note(key, found, policy.clock())
    if not isinstance(found, NotFoundException):
        raise failure
    raise copy.copy(found) from failure


def _look_up(task_id: str, version: Optional[int], policy: Policy, began: float) -> Steps[Optional[NotFoundException]]:
    once = replace(policy, max_retries=0)
    try:
        yield from call(operations.get_task(task_id), once, began)
        if version is not None:
            yield from call(operations.get_artifact(task_id, version), once, began)
    except NotFoundException as error:
        return error
    except LoopaiException:
        return None
    return None


def active_version(artifacts: Iterable[ProgramArtifact]) -> Optional[int]:
    """Return the version that executions run: the highest active one. The task itself may be cached for ten minutes."""
    return max((artifact.version for artifact in artifacts if artifact.status == "active"), default=None)
