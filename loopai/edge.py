"""Edge execution: fetch a task's active program once and run it in this process's sandbox instead of on the server.

Supports programs in Python and TypeScript. The server records no executions.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Generic, Optional, Protocol, TypeVar, Union

from pydantic_core import from_json

from . import models
from ._core.checking import refusal
from ._core.encoding import encode
from ._core.limits import LONGEST_TIMEOUT_MS, PROGRAM_TIMEOUT_MS
from ._core.missing import active_version
from ._core.operations import failed_program
from ._core.rowsets import Missing, rows_of
from .config import NOT_GIVEN, Maybe, NotGiven
from .exceptions import (
    ConfigurationError,
    LoopaiException,
    NotFoundException,
    NotSupportedException,
    ValidationException,
)

if TYPE_CHECKING:
    from .programs import Program, ProgramOutcome, ProgramPool

logger = logging.getLogger("loopai")


class ProgramSource(Protocol):
    """Where programs are loaded from: a `SyncLoopaiClient`."""

    def get_task(self, task_id: str) -> models.Task:
        """Return the task."""

    def list_artifacts(self, task_id: str) -> models.ReplyList[models.ProgramArtifact]:
        """Return all versions of the task's program."""

    def get_artifact(self, task_id: str, version: int) -> models.ProgramArtifact:
        """Return one version of the task's program."""


class AsyncProgramSource(Protocol):
    """Like `ProgramSource`, asynchronous: a `LoopaiClient`."""

    async def get_task(self, task_id: str) -> models.Task:
        """Return the task."""

    async def list_artifacts(self, task_id: str) -> models.ReplyList[models.ProgramArtifact]:
        """Return all versions of the task's program."""

    async def get_artifact(self, task_id: str, version: int) -> models.ProgramArtifact:
        """Return one version of the task's program."""


S = TypeVar("S", bound=Union[ProgramSource, AsyncProgramSource])

_NEW_PROGRAM = frozenset({"programImproved", "canaryCompleted", "canaryRollback"})

_pool: Optional[ProgramPool] = None
_pool_lock = threading.Lock()


def program_pool() -> ProgramPool:
    """Return this process's sandboxes, shared by all edge programs.

    Raises `ConfigurationError` on Python 3.9. A missing library for a language is reported when a program in that
    language is loaded.
    """
    global _pool  # noqa: PLW0603  # one sandbox per process; it keys its workers by process itself
    with _pool_lock:
        if _pool is None:
            if sys.version_info < (3, 10):
                raise ConfigurationError("edge execution needs Python 3.10 or newer, as its sandbox does")
            from .programs import ProgramPool

            _pool = ProgramPool()
        return _pool


class Loaded:
    """One version of a program, and the check of its inputs."""

    def __init__(self, task: models.Task, artifact: models.ProgramArtifact) -> None:
        from .programs import Program, UnsupportedLanguage
        from .programs.input_check import InputCheck, SchemaTooLarge

        try:
            program_pool().require(artifact.language)
        except UnsupportedLanguage:
            raise NotSupportedException(
                f"version {artifact.version} of {task.name!r} is written in {artifact.language}, and only Python and "
                "TypeScript run at the edge: execute it on the server"
            ) from None
        self.artifact = artifact
        self.program: Program = Program(artifact.code, artifact.language)
        try:
            self.check = InputCheck(task.input_schema)
        except SchemaTooLarge as error:
            logger.warning("inputs of %r are not checked at the edge: %s", task.name, error)
            self.check = InputCheck(True)
        for warning in self.check.warnings:
            logger.warning("input schema of %r: %s", task.name, warning)


class _EdgeProgram(ABC, Generic[S]):
    """What both kinds of edge program share: running, and deciding when to check for a newer version."""

    def __init__(
        self, client: S, task_id: str, loaded: Loaded, raises: bool, pinned: bool, interval: Optional[float]
    ) -> None:
        self.task_id = task_id
        self._client = client
        self._loaded = loaded
        self._raises = raises
        self._interval = None if pinned else interval
        self._looked = time.monotonic()
        self._told = False
        self._pool = program_pool()

    @property
    def version(self) -> int:
        """The version in use."""
        return self._loaded.artifact.version

    @property
    def artifact(self) -> models.ProgramArtifact:
        """The artifact in use, with its code and scores."""
        return self._loaded.artifact

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.task_id} version {self.version}>"

    def __call__(
        self, value: Any, *, timeout_ms: Optional[int] = None, raise_on_error: Maybe[bool] = NOT_GIVEN
    ) -> models.ExecutionResult:
        """Run one input, with the results, errors and limits of the client's `execute`."""
        self._refresh_if_due()
        return self._run(value, timeout_ms, raise_on_error)

    def map(
        self,
        values: Iterable[Any],
        *,
        timeout_ms: Optional[int] = None,
        max_concurrency: int = 10,
        missing: Missing = "null",
    ) -> list[models.ExecutionResult]:
        """Run many inputs; one result each, in order. Never raises for an input: read `status`.

        `values` are rows, and `missing` says how missing ones are sent, as in the client's `batch_execute`. Raises
        `ValidationException` for a text or a mapping instead of rows.
        """
        self._refresh_if_due()
        return self._run_many(values, timeout_ms, max_concurrency, missing)

    def notify(self, event: models.WebhookEvent) -> None:
        """Process a webhook event: after one about a new program, the next call checks for it."""
        if str(event.task_id) == self.task_id and event.event_type in _NEW_PROGRAM:
            self._told = True

    @abstractmethod
    def _refresh_if_due(self) -> None:
        """Check for a newer version, or have it checked, if the interval is over."""

    def _is_due(self) -> bool:
        if self._interval is None:
            return False
        return self._told or time.monotonic() - self._looked >= self._interval

    def _looking(self) -> None:
        self._looked, self._told = time.monotonic(), False

    def _run(self, value: Any, timeout_ms: Optional[int], raise_on_error: Maybe[bool]) -> models.ExecutionResult:
        loaded, limit = self._loaded, _limit(timeout_ms)
        value = _as_json(value)
        wrong = loaded.check.errors(value, limit / 1000)
        if wrong:
            raise refusal(wrong)
        result = self._result(loaded, self._pool.run(loaded.program, value, timeout_ms=limit))
        raises = self._raises if isinstance(raise_on_error, NotGiven) else raise_on_error
        error = failed_program(result) if raises else None
        if error is not None:
            raise error
        return result

    def _run_many(
        self, values: Iterable[Any], timeout_ms: Optional[int], max_concurrency: int, missing: Missing
    ) -> list[models.ExecutionResult]:
        from .programs import ProgramOutcome

        loaded, limit = self._loaded, _limit(timeout_ms)
        listed, refused = [], {}
        for place, given in enumerate(rows_of(values, "values", missing)):
            try:
                value = _as_json(given)
            except ValidationException as error:
                value, refused[place] = None, error.message
            else:
                wrong = loaded.check.errors(value, limit / 1000)
                if wrong:
                    refused[place] = "; ".join(f"{path}: {text}" for path, text in wrong)
            listed.append(value)
        fitting = [value for place, value in enumerate(listed) if place not in refused]
        ran = iter(self._pool.run_many(loaded.program, fitting, timeout_ms=limit, max_concurrency=max_concurrency))
        return [
            self._result(loaded, ProgramOutcome(None, refused[place], 0.0) if place in refused else next(ran))
            for place in range(len(listed))
        ]

    def _result(self, loaded: Loaded, outcome: ProgramOutcome) -> models.ExecutionResult:
        artifact = loaded.artifact
        values = {
            "execution_id": uuid.uuid4(),
            "task_id": artifact.task_id,
            "program_id": artifact.id,
            "version": artifact.version,
            "status": "success" if outcome.ok else "error",
            "latency_ms": outcome.latency_ms,
            "sampled_for_validation": False,
            "executed_at": datetime.now(timezone.utc),
            "confidence": outcome.confidence,
        }
        if outcome.ok:
            values["output"] = outcome.output
        else:
            values["error_message"] = outcome.error
        return models.ExecutionResult.model_validate(values)


class EdgeProgram(_EdgeProgram[AsyncProgramSource]):
    """A program at the edge, loaded by a `LoopaiClient`.

    Calling it blocks the calling thread: usually for some hundred microseconds, but up to `timeout_ms` if the program
    hangs. In an event loop with other work, use `execute` and `execute_many`, which run in a thread. A newer version
    is fetched in the background while the loaded one stays in use.
    """

    refreshing: Optional[asyncio.Task[bool]] = None

    async def execute(
        self, value: Any, *, timeout_ms: Optional[int] = None, raise_on_error: Maybe[bool] = NOT_GIVEN
    ) -> models.ExecutionResult:
        """Run one input in a thread."""
        self._refresh_if_due()
        return await asyncio.to_thread(self._run, value, timeout_ms, raise_on_error)

    async def execute_many(
        self,
        values: Iterable[Any],
        *,
        timeout_ms: Optional[int] = None,
        max_concurrency: int = 10,
        missing: Missing = "null",
    ) -> list[models.ExecutionResult]:
        """Run many inputs in a thread; see `map`."""
        self._refresh_if_due()
        return await asyncio.to_thread(self._run_many, values, timeout_ms, max_concurrency, missing)

    async def refresh(self) -> bool:
        """Check for a new version now; return whether there was one. Raises what the client raises."""
        self._looking()
        active = active_version(await self._client.list_artifacts(self.task_id))
        if active is None or active == self.version:
            return False
        artifact = await self._client.get_artifact(self.task_id, active)
        self._loaded = Loaded(await self._client.get_task(self.task_id), artifact)
        return True

    def _refresh_if_due(self) -> None:
        if not self._is_due():
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # called from a thread: the next call in a loop checks
            return
        self._looking()
        self.refreshing = loop.create_task(self.refresh())
        self.refreshing.add_done_callback(_told_of)


class SyncEdgeProgram(_EdgeProgram[ProgramSource]):
    """A program at the edge, loaded by a `SyncLoopaiClient`. Any number of threads may call it.

    The first call after the refresh interval checks for a newer version.
    """

    def refresh(self) -> bool:
        """Check for a new version now; return whether there was one. Raises what the client raises."""
        self._looking()
        active = active_version(self._client.list_artifacts(self.task_id))
        if active is None or active == self.version:
            return False
        artifact = self._client.get_artifact(self.task_id, active)
        self._loaded = Loaded(self._client.get_task(self.task_id), artifact)
        return True

    def _refresh_if_due(self) -> None:
        if self._is_due():
            try:
                self.refresh()
            except LoopaiException as error:
                _not_refreshed(error)


def _told_of(refreshing: asyncio.Task[bool]) -> None:
    if not refreshing.cancelled() and refreshing.exception() is not None:
        _not_refreshed(refreshing.exception())


def _not_refreshed(error: Optional[BaseException]) -> None:
    logger.warning("a program at the edge was not refreshed and stays in use: %s", error)


def _limit(timeout_ms: Optional[int]) -> int:
    if timeout_ms is None:
        return PROGRAM_TIMEOUT_MS
    if not 1 <= timeout_ms <= LONGEST_TIMEOUT_MS:
        text = f"Timeout must be between 1 and {LONGEST_TIMEOUT_MS} milliseconds"
        raise ValidationException("Request validation failed", errors={"timeout_ms": [text]}, code="VALIDATION_ERROR")
    return timeout_ms


_PLAIN = frozenset({str, int, bool, type(None)})


def _as_json(value: Any) -> Any:
    """Return the value as a server would read it from the wire: models, dates and tuples as their JSON forms."""
    if type(value) is dict and all(type(key) is str and type(item) in _PLAIN for key, item in value.items()):
        return value
    return from_json(encode(value, "input"))


def version_to_load(task: models.Task, artifacts: Iterable[models.ProgramArtifact]) -> int:
    """Return the version to fetch. Raises `NotFoundException` if the task has no active program."""
    wanted = active_version(artifacts)
    if wanted is None:
        raise NotFoundException(
            f"task {task.name!r} has no active program yet: execute it once to make one, or push one"
        )
    return wanted
