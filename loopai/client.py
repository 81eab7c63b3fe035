"""`LoopaiClient` and `SyncLoopaiClient`: signatures, and the driver each. What a call does is in `_core`.

To add an endpoint: one operation in `_core/operations.py`, one method in each class here, one test.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from concurrent.futures import wait
from os import PathLike
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Callable, Literal, Optional, TypeVar, Union, overload

from typing_extensions import Self, Unpack

from . import models
from ._core import operations
from ._core.encoding import encode
from ._core.first_executions import Settled
from ._core.flow import Given, Sleep, Wanted
from ._core.hooks import Hooks
from ._core.operations import Item, Operation, failed_program, id_of
from ._core.rowsets import Missing
from ._core.wire import Answer, Request
from ._loop import running_loop
from .bound import In, Out, TypedTask
from .coalescing import Coalescer, Key, SyncCoalescer, nobody
from .config import NOT_GIVEN, Arguments, Cert, KeySource, Maybe, TransportName
from .exceptions import ConfigurationError
from .language_model import Redactor, Unverified
from .options import ClientOptions, RequestOptions
from .preparation import Id, PreparedClient, batch_sender
from .transports import AsyncTransport, Transport, open_async, open_sync

if TYPE_CHECKING:
    import ssl

    from typing_extensions import TypeForm

    from .batch import Journal, Sink, Stop, Summary, Watcher
    from .batch.api import AsyncOutcomes, Mapped, Outcomes, Rows, SyncRows
    from .batch.engine.reader import Key as RowKey
    from .batch.options import Mode
    from .edge import EdgeProgram, SyncEdgeProgram
    from .transports import AsyncHttpClient, HttpClient

T = TypeVar("T")


class BoundTask(TypedTask[In, Out]):
    """What `LoopaiClient.bind` gives: call it with an input, get an output."""

    def __init__(self, client: LoopaiClient, task_id: str, given: TypeForm[In], made: TypeForm[Out], name: str) -> None:
        super().__init__(task_id, given, made, name)
        self._client = client
        if sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(self)

    @property
    def function(self) -> Callable[..., Awaitable[Out]]:
        """The task as a coroutine function, for what takes nothing else (before Python 3.12, a tool of an agent)."""

        async def run(value: In) -> Out:
            return await self(value)

        return self._described(run)

    async def __call__(
        self,
        value: In,
        *,
        version: Optional[int] = None,
        timeout_ms: Optional[int] = None,
        **options: Unpack[RequestOptions],
    ) -> Out:
        """Run the task on `value`.

        Raises `ValidationException` for an input that is not of the bound type, `ExecutionException` for a program
        that failed or gave something else than the bound output, and what `execute` raises.
        """
        sent = self._input(value)
        result = await self._client.execute(self.task_id, sent, version, timeout_ms, raise_on_error=True, **options)
        return self._output(result)


class LoopaiClient(PreparedClient):
    """The asynchronous client: `async with LoopaiClient(...) as client: await client.execute(...)`.

    Parameters; each but `http_client` and `hooks` is also an environment variable (`LOOPAI_BASE_URL`, …), which the
    argument beats:

    - `base_url`: address of the server, by default `http://localhost:8080`.
    - `api_key`: sent as bearer token; or a function that returns one before each attempt.
    - `timeout`: seconds for one attempt (30), None for no limit.
    - `max_retries`: attempts after the first (3), None for no limit.
    - `deadline`: seconds for a whole call with its attempts and pauses, None for no limit.
    - `max_connections`: connections, and so requests in flight, of a process (100).
    - `max_reply_bytes`: largest reply in decoded bytes (64,000,000), None for no limit.
    - `transport`: `"httpx"`, `"httpx2"`, `"pyreqwest"`, or an object that is a transport.
    - `coalesce`: send `execute` calls of the same moment as one batch request.
    - `tasks`: names for task ids.
    - `http_client`: an `httpx.AsyncClient` of yours, which you close yourself.
    - `raise_on_error`: whether `execute` raises for a program that failed (True).
    - `retry_unknown`: whether `execute` and batches are repeated where the request may have arrived (True).
    - `retry_waits`: whether to pause between attempts (True); off in tests.
    - `rate_limit`: most requests to send, as `"30/minute"`.
    - `verify`: TLS verification: True, False, `"system"`, a file of certificates, or an `ssl.SSLContext`.
    - `cert`: client certificate: a file, or `(certificate, key[, password])`.
    - `proxy`: address of a proxy; beats the environment's.
    - `trust_env`: whether proxies are taken from the environment (True).
    - `headers`: sent with every request.
    - `webhook_secrets`: what webhook deliveries are signed with, the newest first.
    - `webhook_tolerance`: age in seconds that a webhook event may have (3,600), None for any.
    - `telemetry`: make OpenTelemetry spans and metrics.
    - `local`: run on an embedded server in this process: True, or its data folder.
    - `llm_model`: language model that writes programs for an embedded server; examples are sent to it. With it
      `llm_base_url` and `llm_api_key` (its endpoint and key), `llm_examples` (most examples shown), `llm_redact` (a
      function that changes each before), `llm_max_tokens`, `llm_seconds` and `llm_max_cost` (most of one generation),
      `llm_prices` (dollars for a million tokens, read and written), `llm_unverified` (what a program without examples
      becomes: `"active"` or `"draft"`).
    - `hooks`: objects that are called on every call, attempt and retry.

    One client serves any number of tasks, event loops and forked children.

    Raises `ConfigurationError` for options that are wrong. Calls raise the kinds of `LoopaiException`.
    """

    def __init__(
        self,
        base_url: Maybe[str] = NOT_GIVEN,
        api_key: Maybe[Union[str, KeySource, None]] = NOT_GIVEN,
        timeout: Maybe[Optional[float]] = NOT_GIVEN,
        max_retries: Maybe[Optional[int]] = NOT_GIVEN,
        *,
        deadline: Maybe[Optional[float]] = NOT_GIVEN,
        max_connections: Maybe[int] = NOT_GIVEN,
        max_reply_bytes: Maybe[Optional[int]] = NOT_GIVEN,
        transport: Maybe[Union[TransportName, AsyncTransport]] = NOT_GIVEN,
        coalesce: Maybe[bool] = NOT_GIVEN,
        tasks: Maybe[Mapping[str, Id]] = NOT_GIVEN,
        http_client: Optional[AsyncHttpClient] = None,
        raise_on_error: Maybe[bool] = NOT_GIVEN,
        retry_unknown: Maybe[bool] = NOT_GIVEN,
        retry_waits: Maybe[bool] = NOT_GIVEN,
        rate_limit: Maybe[Optional[str]] = NOT_GIVEN,
        verify: Maybe[Union[bool, str, ssl.SSLContext]] = NOT_GIVEN,
        cert: Maybe[Optional[Cert]] = NOT_GIVEN,
        proxy: Maybe[Optional[str]] = NOT_GIVEN,
        trust_env: Maybe[bool] = NOT_GIVEN,
        headers: Maybe[Mapping[str, str]] = NOT_GIVEN,
        webhook_secrets: Maybe[Sequence[str]] = NOT_GIVEN,
        webhook_tolerance: Maybe[Optional[float]] = NOT_GIVEN,
        telemetry: Maybe[bool] = NOT_GIVEN,
        local: Maybe[Union[bool, str, PathLike[str]]] = NOT_GIVEN,
        llm_model: Maybe[Optional[str]] = NOT_GIVEN,
        llm_base_url: Maybe[Optional[str]] = NOT_GIVEN,
        llm_api_key: Maybe[Optional[str]] = NOT_GIVEN,
        llm_examples: Maybe[int] = NOT_GIVEN,
        llm_redact: Maybe[Union[str, Redactor, None]] = NOT_GIVEN,
        llm_max_tokens: Maybe[int] = NOT_GIVEN,
        llm_seconds: Maybe[float] = NOT_GIVEN,
        llm_max_cost: Maybe[Optional[float]] = NOT_GIVEN,
        llm_prices: Maybe[Optional[tuple[float, float]]] = NOT_GIVEN,
        llm_unverified: Maybe[Unverified] = NOT_GIVEN,
        hooks: Sequence[Hooks] = (),
    ) -> None:
        arguments = Arguments(
            {
                "base_url": base_url,
                "api_key": api_key,
                "timeout": timeout,
                "max_retries": max_retries,
                "deadline": deadline,
                "max_connections": max_connections,
                "max_reply_bytes": max_reply_bytes,
                "transport": transport,
                "coalesce": coalesce,
                "tasks": tasks,
                "raise_on_error": raise_on_error,
                "retry_unknown": retry_unknown,
                "retry_waits": retry_waits,
                "rate_limit": rate_limit,
                "verify": verify,
                "cert": cert,
                "proxy": proxy,
                "trust_env": trust_env,
                "headers": headers,
                "webhook_secrets": webhook_secrets,
                "webhook_tolerance": webhook_tolerance,
                "telemetry": telemetry,
                "local": local,
                "llm_model": llm_model,
                "llm_base_url": llm_base_url,
                "llm_api_key": llm_api_key,
                "llm_examples": llm_examples,
                "llm_redact": llm_redact,
                "llm_max_tokens": llm_max_tokens,
                "llm_seconds": llm_seconds,
                "llm_max_cost": llm_max_cost,
                "llm_prices": llm_prices,
                "llm_unverified": llm_unverified,
            }
        )
        # A traceback that shows variables shows those of this frame.
        del base_url, api_key, headers, webhook_secrets, cert, proxy, llm_api_key
        super().__init__(arguments, hooks, http_client)
        self._transport: AsyncTransport
        if http_client is not None:
            from .transports.httpx import BroughtAsyncClient

            self._transport = BroughtAsyncClient(http_client)
        else:
            self._transport = open_async(self._config)
        self._gather()

    def _gather(self) -> None:
        self._coalescer = Coalescer(self._run, self._joined if self._hooks else nobody, self._group_size)

    @property
    def transport(self) -> AsyncTransport:
        """The transport that requests go over; this client closes it, unless it is an object of yours."""
        return self._transport

    @classmethod
    def local(cls, path: Union[str, PathLike[str], None] = None, **options: Unpack[ClientOptions]) -> Self:
        """A client on an embedded server in this process: the same calls, nothing else to run.

        `path` is the folder that keeps its data; several processes may share one. Without it the data lives as
        long as the process. `options` are those of the class. Raises `ConfigurationError` where what the server
        needs is not installed.
        """
        return cls(local=True if path is None else path, **options)

    async def __aenter__(self) -> Self:
        running_loop()
        return self

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections that this client opened. Closing twice is not an error."""
        running_loop()
        self._closed = True
        if self._owns_transport:
            await self._transport.aclose()

    async def _run(self, operation: Operation[T], options: Optional[RequestOptions] = None) -> T:
        running_loop()
        flow = self._flow(operation, options)
        answer: Union[Answer, Given, None] = None
        try:
            while True:
                step = flow.send(answer)
                if isinstance(step, Request):
                    answer = await self._transport.asend(step)
                elif isinstance(step, Wanted):
                    given = step.source()
                    answer = Given(await given if inspect.isawaitable(given) else given)
                else:
                    answer = None
                    if isinstance(step, Sleep):
                        await asyncio.sleep(step.seconds)
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            flow.close()

    async def _wait(self, settled: Settled, seconds: float) -> None:
        waiting = asyncio.wrap_future(settled)
        try:
            await asyncio.wait({waiting}, timeout=seconds)
        finally:
            waiting.cancel()  # of this loop alone: it may be closed when the others are told

    # Tasks and artifacts

    async def create_task(
        self,
        name: str,
        description: str,
        input_schema: Any,
        output_schema: Any,
        examples: Optional[Iterable[Any]] = None,
        accuracy_target: Optional[float] = None,
        latency_target_ms: Optional[int] = None,
        sampling_rate: Optional[float] = None,
        **options: Unpack[RequestOptions],
    ) -> models.Task:
        """Create a task. A schema is a JSON schema or a pydantic model class; examples are
        `{"input": …, "output": …}`. What is `None` takes the server's default.

        Raises `ValidationException` (`.errors` by field) and `ConflictException` for a name that is taken.
        """
        return await self._run(
            operations.create_task(
                name,
                description,
                input_schema,
                output_schema,
                examples,
                accuracy_target,
                latency_target_ms,
                sampling_rate,
            ),
            options,
        )

    async def get_task(self, task_id: Id, **options: Unpack[RequestOptions]) -> models.Task:
        """The task. Raises `NotFoundException`."""
        return await self._run(operations.get_task(self._task(task_id)), options)

    async def list_tasks(self, **options: Unpack[RequestOptions]) -> models.ReplyList[models.Task]:
        """All tasks, oldest first. An addition of the embedded server; elsewhere raises `NotSupportedException`."""
        return await self._run(operations.list_tasks(), options)

    async def get_task_by_name(self, name: str, **options: Unpack[RequestOptions]) -> models.Task:
        """The task of that name. An addition of the embedded server; elsewhere raises `NotSupportedException`."""
        return await self._run(operations.get_task_by_name(name), options)

    async def list_artifacts(
        self, task_id: Id, **options: Unpack[RequestOptions]
    ) -> models.ReplyList[models.ProgramArtifact]:
        """The task's programs by ascending version; empty for an unknown task."""
        return await self._run(operations.list_artifacts(self._task(task_id)), options)

    async def get_artifact(
        self, task_id: Id, version: int, **options: Unpack[RequestOptions]
    ) -> models.ProgramArtifact:
        """One version of the task's program. Raises `NotFoundException`."""
        return await self._run(operations.get_artifact(self._task(task_id), version), options)

    async def push_program(
        self,
        task_id: Id,
        code: str,
        language: str = "python",
        *,
        activate: bool = True,
        **options: Unpack[RequestOptions],
    ) -> models.ProgramArtifact:
        """Add a program of your own as the task's next version; it becomes the active one unless `activate=False`.

        An addition of the embedded server; elsewhere raises `NotSupportedException`. Raises `ValidationException` for
        code that does not load or defines no `main`.
        """
        return await self._run(operations.push_program(self._task(task_id), code, language, activate), options)

    async def activate(self, task_id: Id, version: int, **options: Unpack[RequestOptions]) -> models.ProgramArtifact:
        """Make a version the active one; later active versions are retired. Raises `NotFoundException`.

        An addition of the embedded server; elsewhere raises `NotSupportedException`.
        """
        return await self._run(operations.activate(self._task(task_id), version), options)

    async def retire(self, task_id: Id, version: int, **options: Unpack[RequestOptions]) -> models.ProgramArtifact:
        """Take a version out of use; the highest other active version runs. Raises `NotFoundException`.

        An addition of the embedded server; elsewhere raises `NotSupportedException`.
        """
        return await self._run(operations.retire(self._task(task_id), version), options)

    async def add_examples(
        self, task_id: Id, examples: Iterable[Any], **options: Unpack[RequestOptions]
    ) -> models.Task:
        """Add examples (`{"input": …, "output": …}`) to a task; one with the same input replaces the earlier one.

        Active programs stay as they are; `generate` makes the next version. Raises `NotFoundException`. An addition of
        the embedded server; elsewhere raises `NotSupportedException`.
        """
        return await self._run(operations.add_examples(self._task(task_id), examples), options)

    async def generate(self, task_id: Id, **options: Unpack[RequestOptions]) -> models.ProgramArtifact:
        """Make the next version of a task's program from its examples, and return it.

        Its `status` is `active` where it is better than the active version, or the first; otherwise `draft`. Waits
        until the program is made: up to 100 seconds more than `timeout`. Raises `ExecutionException` where no program
        can be made, saying why. An addition of the embedded server; elsewhere raises `NotSupportedException`.
        """
        return await self._run(operations.generate(self._task(task_id)), options)

    async def delete_task(self, task_id: Id, **options: Unpack[RequestOptions]) -> None:
        """Delete a task with its examples, programs and executions. Raises `NotFoundException`.

        An addition of the embedded server; elsewhere raises `NotSupportedException`.
        """
        await self._run(operations.delete_task(self._task(task_id)), options)

    # Executions

    async def execute(
        self,
        task_id: Id,
        input_data: Any,
        version: Optional[int] = None,
        timeout_ms: Optional[int] = None,
        force_validation: bool = False,
        *,
        raise_on_error: Maybe[bool] = NOT_GIVEN,
        **options: Unpack[RequestOptions],
    ) -> models.ExecutionResult:
        """Run the task's active program, or `version` of it, on one input (any JSON value or pydantic model).

        `timeout_ms` bounds the program, in milliseconds (server's default 5000). Raises `ExecutionException` for a
        program that failed, with the result on it; `raise_on_error=False` returns that result instead.

        With `coalesce=True` calls of the same moment travel as one batch request, whose slowest item delays them;
        `program_id` and `executed_at` are then `None`, and a refused input is an `ExecutionException`.
        """
        task, raises = self._task(task_id), self._raises(raise_on_error)
        if options or not self._config.coalesce:
            return await self._run(
                operations.execute(task, input_data, version, timeout_ms, force_validation, raises), options
            )
        key = Key(task, version, timeout_ms, force_validation)
        running_loop()
        result = await self._coalescer.execute(key, encode(input_data, "input"))
        error = failed_program(result) if raises else None
        if error is not None:
            raise error
        return result

    async def batch_execute(
        self,
        task_id: Id,
        inputs: Iterable[Any],
        max_concurrency: int = 10,
        *,
        missing: Missing = "null",
        **options: Unpack[RequestOptions],
    ) -> models.BatchExecuteResponse:
        """Run many inputs in one request; results come in their order, numbered "0", "1", ….

        `inputs` are rows: any iterable, or a DataFrame or Series, whose missing values (NaN, `pd.NA`, NaT) are sent as
        null, or refused with `missing="error"`. `max_concurrency` is the server's, 1–100. Never raises for an item that
        failed: see `success` on each result. Raises `ValidationException` for a text or mapping in place of rows.
        """
        task = self._task(task_id)
        request = operations.batch_of(task, inputs, max_concurrency, missing)
        return await self._run(operations.batch_execute(request, task), options)

    @overload
    async def batch_execute_advanced(
        self,
        request: Union[models.BatchExecuteRequest, Mapping[str, Any]],
        *,
        missing: Missing = "null",
        **options: Unpack[RequestOptions],
    ) -> models.BatchExecuteResponse: ...

    @overload
    async def batch_execute_advanced(
        self,
        *,
        task_id: Id,
        items: Iterable[Item],
        version: Maybe[Optional[int]] = NOT_GIVEN,
        max_concurrency: Maybe[int] = NOT_GIVEN,
        stop_on_first_error: Maybe[bool] = NOT_GIVEN,
        timeout_ms: Maybe[Optional[int]] = NOT_GIVEN,
        missing: Missing = "null",
        **options: Unpack[RequestOptions],
    ) -> models.BatchExecuteResponse: ...

    async def batch_execute_advanced(
        self,
        request: Union[models.BatchExecuteRequest, Mapping[str, Any], None] = None,
        *,
        task_id: Maybe[Id] = NOT_GIVEN,
        items: Maybe[Iterable[Item]] = NOT_GIVEN,
        version: Maybe[Optional[int]] = NOT_GIVEN,
        max_concurrency: Maybe[int] = NOT_GIVEN,
        stop_on_first_error: Maybe[bool] = NOT_GIVEN,
        timeout_ms: Maybe[Optional[int]] = NOT_GIVEN,
        missing: Missing = "null",
        **options: Unpack[RequestOptions],
    ) -> models.BatchExecuteResponse:
        """Run items with ids of your own, given as one request or by its parts; items as models, dicts or a DataFrame.

        `missing` says what becomes of missing values in a DataFrame, as in `batch_execute`. `timeout_ms` bounds each
        item, in milliseconds. Never raises for an item that failed; raises `ValidationException` naming item and field
        for one that cannot be sent.
        """
        parts = {
            "task_id": task_id,
            "items": items,
            "version": version,
            "max_concurrency": max_concurrency,
            "stop_on_first_error": stop_on_first_error,
            "timeout_ms": timeout_ms,
        }
        return await self._run(self._batch(request, parts, missing), options)

    async def batch_validate(
        self, task_id: Id, items: Iterable[Item], *, missing: Missing = "null", **options: Unpack[RequestOptions]
    ) -> models.BatchValidateResponse:
        """Compare outputs with expected ones (`id`, `input`, `output`, `expected_output`).

        `items` are models, dicts, or a DataFrame, whose missing values `missing` treats as in `batch_execute`.
        """
        return await self._run(operations.batch_validate(self._task(task_id), items, missing), options)

    def bind(self, task_id: Id, *, input: TypeForm[In], output: TypeForm[Out]) -> BoundTask[In, Out]:  # noqa: A002  # fixed name
        """The task as a callable from `input` to `output`: pydantic models, `Literal[…]`, unions, any other types."""
        return BoundTask(self, self._task(task_id), input, output, self._name_of(task_id))

    async def load_program(
        self, task_id: Id, version: Optional[int] = None, *, refresh_interval: Optional[float] = 60.0
    ) -> EdgeProgram:
        """The task's active program, or `version` of it, to run in this process: `program(input)`, `program.map(…)`.

        A newer version is looked for every `refresh_interval` seconds (`None`: never) unless `version` is given.
        Raises `NotSupportedException` for a program that is neither Python nor TypeScript, `ConfigurationError`
        without the sandbox that its language needs.
        """
        from . import edge

        edge.program_pool()
        pinned = version is not None
        task = await self.get_task(task_id)
        if version is None:
            version = edge.version_to_load(task, await self.list_artifacts(task.id))
        artifact = await self.get_artifact(task.id, version)
        loaded = edge.Loaded(task, artifact)
        return edge.EdgeProgram(self, str(task.id), loaded, self._config.raise_on_error, pinned, refresh_interval)

    # Many rows

    def batch_stream(
        self,
        task_id: Id,
        rows: Rows,
        *,
        key: RowKey = None,
        mapping: Mapped = None,
        allow_duplicates: bool = False,
        limit: Optional[int] = None,
        missing: Missing = "null",
        chunk_size: int = 100,
        max_in_flight: int = 4,
        max_concurrency: int = 10,
        ordered: bool = False,
        max_errors: Union[int, str, None] = None,
        min_confidence: Optional[float] = None,
        timeout_ms: Optional[int] = None,
        version: Optional[int] = None,
        force_validation: bool = False,
        mode: Literal["resume", "retry_failed"] = "resume",
        journal: Union[str, PathLike[str], Journal, None] = None,
        format: Optional[str] = None,  # noqa: A002  # as the flag is called
        delimiter: Optional[str] = None,
        quotechar: Optional[str] = None,
        escapechar: Optional[str] = None,
        encoding: str = "utf-8",
        skip_lines: int = 0,
        comment: Optional[str] = None,
        no_header: bool = False,
        sheet: Optional[str] = None,
        types: Optional[Mapping[str, str]] = None,
        stop: Optional[Stop] = None,
    ) -> AsyncOutcomes:
        """Run any number of rows, and give each one's outcome as it ends: `ok`, `doubtful`, `error` or `cancelled`.

        `rows` is any iterable (for `LoopaiClient` also an asynchronous one), or the path of a CSV, JSONL or Parquet
        file, also gzipped, or such a file opened in binary mode. A DataFrame (pandas, polars, others by narwhals) or
        Series is taken row by row; a missing value in it is sent as null, or with `missing="error"` ends its row as an
        error. Rows are pulled only as fast as
        they are sent, `chunk_size` to a request, with at most `max_in_flight` requests in flight, of each of which the
        server runs `max_concurrency` rows at a time.

        `key` names a row (a column, dotted if it lies deeper, or a function of the row); without it, rows are numbered
        from 1. `mapping` (`["text=body"]`) makes the program's input of a row; without it the row is the input.
        `journal` (a path) records which rows have ended: a later call with the same journal skips those, or with
        `mode="retry_failed"` only those that ended ok. `max_errors` (20, or "5%") stops the run when more rows have
        failed, `limit` after so many rows. With `min_confidence` (0 to 1), rows whose program is less certain end as
        `doubtful`, with their output; programs that choose among labels say how certain they are. `timeout_ms` is how
        many milliseconds a row's program may take. `ordered` keeps the order of the rows. `format`, `delimiter`,
        `quotechar`, `escapechar`, `encoding`, `skip_lines`, `comment`, `no_header`, `sheet` and `types` say how a file
        is read where that is not detected. Calling `stop` ends the run early.

        `task_id` is the task's id or name, `version` a version of its program instead of the active one. With
        `mode="resume"` (the default) finished rows are skipped. `allow_duplicates` lets rows share a key. `missing`
        says what missing values of a DataFrame become: `"null"`, or `"error"`. `force_validation` has the server
        validate every result.

        A row never raises. Raises the `LoopaiException` where the server cannot be reached or refuses the run, and
        `ConfigurationError` for options that do not fit, keys that occur twice in a file, or a journal of another run.
        """
        from . import batch

        task = self._task(task_id)
        return batch.stream(
            batch_sender(self),
            task,
            rows,
            batch.BatchOptions(
                key=key,
                mapping=mapping,
                allow_duplicates=allow_duplicates,
                limit=limit,
                missing=missing,
                chunk_size=chunk_size,
                max_in_flight=max_in_flight,
                max_concurrency=max_concurrency,
                ordered=ordered,
                max_errors=max_errors,
                min_confidence=min_confidence,
                timeout_ms=timeout_ms,
                version=version,
                force_validation=force_validation,
                mode=mode,
                journal=journal,
                format=format,
                delimiter=delimiter,
                quotechar=quotechar,
                escapechar=escapechar,
                encoding=encoding,
                skip_lines=skip_lines,
                comment=comment,
                no_header=no_header,
                sheet=sheet,
                types=types,
                stop=stop,
            ),
            names=self._names_for(task),
        )

    async def run_batch(
        self,
        task_id: Id,
        rows: Rows,
        output: Union[str, PathLike[str], IO[bytes], None] = None,
        *,
        key: RowKey = None,
        mapping: Mapped = None,
        allow_duplicates: bool = False,
        limit: Optional[int] = None,
        missing: Missing = "null",
        expect: Optional[str] = None,
        chunk_size: int = 100,
        max_in_flight: int = 4,
        max_concurrency: int = 10,
        ordered: bool = False,
        max_errors: Union[int, str, None] = None,
        min_confidence: Optional[float] = None,
        timeout_ms: Optional[int] = None,
        version: Optional[int] = None,
        force_validation: bool = False,
        mode: Mode = "new",
        journal: Union[str, PathLike[str], Journal, None] = None,
        sink: Optional[Sink] = None,
        output_format: Optional[str] = None,
        format: Optional[str] = None,  # noqa: A002  # as the flag is called
        delimiter: Optional[str] = None,
        quotechar: Optional[str] = None,
        escapechar: Optional[str] = None,
        encoding: str = "utf-8",
        skip_lines: int = 0,
        comment: Optional[str] = None,
        no_header: bool = False,
        sheet: Optional[str] = None,
        types: Optional[Mapping[str, str]] = None,
        stop: Optional[Stop] = None,
        watchers: Sequence[Watcher] = (),
    ) -> Summary:
        """Run any number of rows into `output` (a JSONL, CSV or Parquet file) or `sink`, and return the summary.

        Rows and options are those of `batch_stream`. `mode` says what to do with an output that exists: `"resume"`
        skips the rows that have ended, `"retry_failed"` only those that ended ok, `"continue"` is `"resume"` that
        starts silently where there is nothing to resume, `"overwrite"` starts again, and `"new"` refuses. The journal
        lies beside the output unless `journal` names another path. `expect` is the column with the right answers: the
        summary then has accuracy and confusion matrix, and the column is not sent. `watchers` are called while the run
        is in progress.

        `task_id`, `rows`, `key`, `mapping`, `limit`, `missing`, `version`, `force_validation`, `allow_duplicates`,
        `chunk_size`, `max_in_flight`, `max_concurrency`, `max_errors`, `min_confidence`, `timeout_ms`, `ordered`,
        `stop` and what says how a file is read (`format`, `delimiter`, `quotechar`, `escapechar`, `encoding`,
        `skip_lines`, `comment`, `no_header`, `sheet`, `types`) are as in `batch_stream`; `output_format` is that of the
        output where its name does not say it.

        Raises `ConfigurationError` before a row is sent, `OutputError` where the output cannot be written, and the
        `LoopaiException` where the server cannot be reached or refuses the run. After any of them, run it again with
        `mode="resume"` to continue.
        """
        from . import batch

        task = self._task(task_id)
        return await batch.run(
            batch_sender(self),
            task,
            rows,
            output,
            batch.BatchOptions(
                key=key,
                mapping=mapping,
                allow_duplicates=allow_duplicates,
                limit=limit,
                missing=missing,
                expect=expect,
                chunk_size=chunk_size,
                max_in_flight=max_in_flight,
                max_concurrency=max_concurrency,
                ordered=ordered,
                max_errors=max_errors,
                min_confidence=min_confidence,
                timeout_ms=timeout_ms,
                version=version,
                force_validation=force_validation,
                mode=mode,
                journal=journal,
                sink=sink,
                output_format=output_format,
                format=format,
                delimiter=delimiter,
                quotechar=quotechar,
                escapechar=escapechar,
                encoding=encoding,
                skip_lines=skip_lines,
                comment=comment,
                no_header=no_header,
                sheet=sheet,
                types=types,
                stop=stop,
                watchers=watchers,
            ),
            names=self._names_for(task),
        )

    # Health

    async def get_health(self, **options: Unpack[RequestOptions]) -> models.HealthResponse:
        """The server's word that it runs, with version and environment."""
        return await self._run(operations.get_health(), options)

    async def get_detailed_health(self, **options: Unpack[RequestOptions]) -> models.DetailedHealthResponse:
        """Health by component; a degraded server's answer (503) is a result."""
        return await self._run(operations.get_detailed_health(), options)

    async def get_ready(self, **options: Unpack[RequestOptions]) -> models.ReadyResponse:
        """Whether the server takes work; `not_ready` (503) is a result."""
        return await self._run(operations.get_ready(), options)

    async def get_live(self, **options: Unpack[RequestOptions]) -> models.LiveResponse:
        """The server's process answers."""
        return await self._run(operations.get_live(), options)

    async def get_plain_health(self, **options: Unpack[RequestOptions]) -> models.HealthResponse:
        """`GET /health`, one word, made into a `HealthResponse`; what load balancers ask."""
        return await self._run(operations.get_plain_health(), options)

    async def get_metrics(self, **options: Unpack[RequestOptions]) -> models.ReplyText:
        """The server's metrics as Prometheus text."""
        return await self._run(operations.get_metrics(), options)

    # Validation, comparison, canaries

    async def get_validation_summary(
        self, program_id: Id, **options: Unpack[RequestOptions]
    ) -> models.ValidationSummary:
        """A program's validation statistics; zeros for an unknown program."""
        return await self._run(operations.get_validation_summary(id_of(program_id, "program_id")), options)

    async def get_recommendations(
        self, program_id: Id, **options: Unpack[RequestOptions]
    ) -> models.ImprovementRecommendation:
        """Whether a program should be improved, and why."""
        return await self._run(operations.get_recommendations(id_of(program_id, "program_id")), options)

    async def improve_program(self, program_id: Id, **options: Unpack[RequestOptions]) -> models.ImprovementResult:
        """Have a draft made from the program's failures. Raises `ValidationException` where none is needed."""
        return await self._run(operations.improve_program(id_of(program_id, "program_id")), options)

    async def compare_programs(
        self,
        control_program_id: Id,
        treatment_program_id: Id,
        configuration: Union[models.ComparisonConfiguration, Mapping[str, Any], None] = None,
        **options: Unpack[RequestOptions],
    ) -> models.ComparisonResult:
        """Compare two programs by their recent executions."""
        control = id_of(control_program_id, "control_program_id")
        treatment = id_of(treatment_program_id, "treatment_program_id")
        return await self._run(operations.compare_programs(control, treatment, configuration), options)

    async def start_canary(
        self, task_id: Id, new_program_id: Id, **options: Unpack[RequestOptions]
    ) -> models.CanaryDeployment:
        """Bring a program in at 5 percent. Raises `ValidationException` where a canary is under way."""
        return await self._run(
            operations.start_canary(self._task(task_id), id_of(new_program_id, "new_program_id")), options
        )

    async def progress_canary(self, canary_id: Id, **options: Unpack[RequestOptions]) -> models.CanaryDeployment:
        """Take a canary to its next stage, or have it paused or rolled back: read `status`."""
        return await self._run(operations.progress_canary(id_of(canary_id, "canary_id")), options)

    async def rollback_canary(
        self, canary_id: Id, reason: str, **options: Unpack[RequestOptions]
    ) -> models.CanaryDeployment:
        """Take a canary back, in any state, for a `reason` of at most 500 characters."""
        return await self._run(operations.rollback_canary(id_of(canary_id, "canary_id"), reason), options)

    async def get_canary(self, task_id: Id, **options: Unpack[RequestOptions]) -> Optional[models.CanaryDeployment]:
        """The task's canary in progress; `None` if there is none."""
        return await self._run(operations.get_canary(self._task(task_id)), options)

    # Webhooks

    async def subscribe_webhook(
        self,
        url: str,
        event_types: Sequence[Union[models.EventTypeName, int]],
        secret: Optional[str] = None,
        max_retries: Optional[int] = None,
        timeout_seconds: Optional[int] = None,
        headers: Optional[Mapping[str, str]] = None,
        **options: Unpack[RequestOptions],
    ) -> models.WebhookSubscription:
        """Have events delivered to `url`, signed with `secret`.

        `max_retries` is the server's total of attempts a delivery, `timeout_seconds` the bound of each.

        Raises `ValidationException` for an unknown event type or an address that is none.
        """
        operation = operations.subscribe_webhook(url, event_types, secret, max_retries, timeout_seconds, headers)
        del secret, headers  # a traceback that shows variables shows those of this frame
        return await self._run(operation, options)

    async def unsubscribe_webhook(self, subscription_id: Id, **options: Unpack[RequestOptions]) -> None:
        """End a subscription. Raises `NotFoundException`."""
        await self._run(operations.unsubscribe_webhook(id_of(subscription_id, "subscription_id")), options)

    async def list_executions(
        self,
        task_id: Id,
        limit: int = 100,
        before: Optional[str] = None,
        status: Optional[str] = None,
        **options: Unpack[RequestOptions],
    ) -> models.ReplyList[models.ExecutionRecord]:
        """The task's recorded executions with their inputs, newest first, at most `limit` (1 to 1,000).

        `status` is `"success"` or `"error"`, None for both. Where there are more, the reply's header `x-next-cursor` is
        the next page's `before`. An addition of the embedded server; elsewhere raises `NotSupportedException`.
        """
        return await self._run(operations.list_executions(self._task(task_id), limit, before, status), options)

    async def export_executions(
        self, task_id: Id, status: Optional[str] = None, **options: Unpack[RequestOptions]
    ) -> models.ReplyText:
        """All of the task's recorded executions, newest first, a line of JSON each, at most `max_reply_bytes`.

        An addition of the embedded server; elsewhere raises `NotSupportedException`.
        """
        return await self._run(operations.export_executions(self._task(task_id), status), options)

    async def delete_executions(
        self, older_than_days: int, **options: Unpack[RequestOptions]
    ) -> models.DeletedExecutions:
        """Delete recorded executions of all tasks that are older; 0 for all. The reply says how many.

        An addition of the embedded server; elsewhere raises `NotSupportedException`.
        """
        return await self._run(operations.delete_executions(older_than_days), options)

    async def list_webhooks(self, **options: Unpack[RequestOptions]) -> models.ReplyList[models.WebhookSubscription]:
        """All subscriptions, in no order. The server gives their secrets in clear."""
        return await self._run(operations.list_webhooks(), options)

    async def get_webhook_history(
        self, subscription_id: Id, limit: int = 100, **options: Unpack[RequestOptions]
    ) -> models.ReplyList[models.WebhookDelivery]:
        """The latest attempts to deliver, newest first; empty for an unknown subscription."""
        return await self._run(
            operations.get_webhook_history(id_of(subscription_id, "subscription_id"), limit), options
        )


class SyncBoundTask(TypedTask[In, Out]):
    """What `SyncLoopaiClient.bind` gives: call it with an input, get an output."""

    def __init__(
        self, client: SyncLoopaiClient, task_id: str, given: TypeForm[In], made: TypeForm[Out], name: str
    ) -> None:
        super().__init__(task_id, given, made, name)
        self._client = client

    @property
    def function(self) -> Callable[..., Out]:
        """The task as a function, for what takes nothing else."""

        def run(value: In) -> Out:
            return self(value)

        return self._described(run)

    def __call__(
        self,
        value: In,
        *,
        version: Optional[int] = None,
        timeout_ms: Optional[int] = None,
        **options: Unpack[RequestOptions],
    ) -> Out:
        """Run the task on `value`.

        Raises `ValidationException` for an input that is not of the bound type, `ExecutionException` for a program
        that failed or gave something else than the bound output, and what `execute` raises.
        """
        sent = self._input(value)
        result = self._client.execute(self.task_id, sent, version, timeout_ms, raise_on_error=True, **options)
        return self._output(result)


class SyncLoopaiClient(PreparedClient):
    """The synchronous client: `with SyncLoopaiClient(...) as client: client.execute(...)`.

    Parameters; each but `http_client` and `hooks` is also an environment variable (`LOOPAI_BASE_URL`, …), which the
    argument beats:

    - `base_url`: address of the server, by default `http://localhost:8080`.
    - `api_key`: sent as bearer token; or a function that returns one before each attempt.
    - `timeout`: seconds for one attempt (30), None for no limit.
    - `max_retries`: attempts after the first (3), None for no limit.
    - `deadline`: seconds for a whole call with its attempts and pauses, None for no limit.
    - `max_connections`: connections, and so requests in flight, of a process (100).
    - `max_reply_bytes`: largest reply in decoded bytes (64,000,000), None for no limit.
    - `transport`: `"httpx"`, `"httpx2"`, `"pyreqwest"`, or an object that is a transport.
    - `coalesce`: send `execute` calls of the same moment as one batch request.
    - `tasks`: names for task ids.
    - `http_client`: an `httpx.Client` of yours, which you close yourself.
    - `raise_on_error`: whether `execute` raises for a program that failed (True).
    - `retry_unknown`: whether `execute` and batches are repeated where the request may have arrived (True).
    - `retry_waits`: whether to pause between attempts (True); off in tests.
    - `rate_limit`: most requests to send, as `"30/minute"`.
    - `verify`: TLS verification: True, False, `"system"`, a file of certificates, or an `ssl.SSLContext`.
    - `cert`: client certificate: a file, or `(certificate, key[, password])`.
    - `proxy`: address of a proxy; beats the environment's.
    - `trust_env`: whether proxies are taken from the environment (True).
    - `headers`: sent with every request.
    - `webhook_secrets`: what webhook deliveries are signed with, the newest first.
    - `webhook_tolerance`: age in seconds that a webhook event may have (3,600), None for any.
    - `telemetry`: make OpenTelemetry spans and metrics.
    - `local`: run on an embedded server in this process: True, or its data folder.
    - `llm_model`: language model that writes programs for an embedded server; examples are sent to it. With it
      `llm_base_url` and `llm_api_key` (its endpoint and key), `llm_examples` (most examples shown), `llm_redact` (a
      function that changes each before), `llm_max_tokens`, `llm_seconds` and `llm_max_cost` (most of one generation),
      `llm_prices` (dollars for a million tokens, read and written), `llm_unverified` (what a program without examples
      becomes: `"active"` or `"draft"`).
    - `hooks`: objects that are called on every call, attempt and retry.

    One client serves any number of threads and forked children.

    Raises `ConfigurationError` for options that are wrong. Calls raise the kinds of `LoopaiException`.
    """

    def __init__(
        self,
        base_url: Maybe[str] = NOT_GIVEN,
        api_key: Maybe[Union[str, KeySource, None]] = NOT_GIVEN,
        timeout: Maybe[Optional[float]] = NOT_GIVEN,
        max_retries: Maybe[Optional[int]] = NOT_GIVEN,
        *,
        deadline: Maybe[Optional[float]] = NOT_GIVEN,
        max_connections: Maybe[int] = NOT_GIVEN,
        max_reply_bytes: Maybe[Optional[int]] = NOT_GIVEN,
        transport: Maybe[Union[TransportName, Transport]] = NOT_GIVEN,
        coalesce: Maybe[bool] = NOT_GIVEN,
        tasks: Maybe[Mapping[str, Id]] = NOT_GIVEN,
        http_client: Optional[HttpClient] = None,
        raise_on_error: Maybe[bool] = NOT_GIVEN,
        retry_unknown: Maybe[bool] = NOT_GIVEN,
        retry_waits: Maybe[bool] = NOT_GIVEN,
        rate_limit: Maybe[Optional[str]] = NOT_GIVEN,
        verify: Maybe[Union[bool, str, ssl.SSLContext]] = NOT_GIVEN,
        cert: Maybe[Optional[Cert]] = NOT_GIVEN,
        proxy: Maybe[Optional[str]] = NOT_GIVEN,
        trust_env: Maybe[bool] = NOT_GIVEN,
        headers: Maybe[Mapping[str, str]] = NOT_GIVEN,
        webhook_secrets: Maybe[Sequence[str]] = NOT_GIVEN,
        webhook_tolerance: Maybe[Optional[float]] = NOT_GIVEN,
        telemetry: Maybe[bool] = NOT_GIVEN,
        local: Maybe[Union[bool, str, PathLike[str]]] = NOT_GIVEN,
        llm_model: Maybe[Optional[str]] = NOT_GIVEN,
        llm_base_url: Maybe[Optional[str]] = NOT_GIVEN,
        llm_api_key: Maybe[Optional[str]] = NOT_GIVEN,
        llm_examples: Maybe[int] = NOT_GIVEN,
        llm_redact: Maybe[Union[str, Redactor, None]] = NOT_GIVEN,
        llm_max_tokens: Maybe[int] = NOT_GIVEN,
        llm_seconds: Maybe[float] = NOT_GIVEN,
        llm_max_cost: Maybe[Optional[float]] = NOT_GIVEN,
        llm_prices: Maybe[Optional[tuple[float, float]]] = NOT_GIVEN,
        llm_unverified: Maybe[Unverified] = NOT_GIVEN,
        hooks: Sequence[Hooks] = (),
    ) -> None:
        arguments = Arguments(
            {
                "base_url": base_url,
                "api_key": api_key,
                "timeout": timeout,
                "max_retries": max_retries,
                "deadline": deadline,
                "max_connections": max_connections,
                "max_reply_bytes": max_reply_bytes,
                "transport": transport,
                "coalesce": coalesce,
                "tasks": tasks,
                "raise_on_error": raise_on_error,
                "retry_unknown": retry_unknown,
                "retry_waits": retry_waits,
                "rate_limit": rate_limit,
                "verify": verify,
                "cert": cert,
                "proxy": proxy,
                "trust_env": trust_env,
                "headers": headers,
                "webhook_secrets": webhook_secrets,
                "webhook_tolerance": webhook_tolerance,
                "telemetry": telemetry,
                "local": local,
                "llm_model": llm_model,
                "llm_base_url": llm_base_url,
                "llm_api_key": llm_api_key,
                "llm_examples": llm_examples,
                "llm_redact": llm_redact,
                "llm_max_tokens": llm_max_tokens,
                "llm_seconds": llm_seconds,
                "llm_max_cost": llm_max_cost,
                "llm_prices": llm_prices,
                "llm_unverified": llm_unverified,
            }
        )
        # A traceback that shows variables shows those of this frame.
        del base_url, api_key, headers, webhook_secrets, cert, proxy, llm_api_key
        super().__init__(arguments, hooks, http_client)
        self._transport: Transport
        if http_client is not None:
            from .transports.httpx import BroughtClient

            self._transport = BroughtClient(http_client)
        else:
            self._transport = open_sync(self._config)
        self._gather()

    def _gather(self) -> None:
        self._coalescer = SyncCoalescer(self._run, self._joined if self._hooks else nobody, self._group_size)

    @property
    def transport(self) -> Transport:
        """The transport that requests go over; this client closes it, unless it is an object of yours."""
        return self._transport

    @classmethod
    def local(cls, path: Union[str, PathLike[str], None] = None, **options: Unpack[ClientOptions]) -> Self:
        """A client on an embedded server in this process: the same calls, nothing else to run.

        `path` is the folder that keeps its data; several processes may share one. Without it the data lives as
        long as the process. `options` are those of the class. Raises `ConfigurationError` where what the server
        needs is not installed.
        """
        return cls(local=True if path is None else path, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that this client opened. Closing twice is not an error."""
        self._closed = True
        if self._owns_transport:
            self._transport.close()

    def _run(self, operation: Operation[T], options: Optional[RequestOptions] = None) -> T:
        flow = self._flow(operation, options)
        answer: Union[Answer, Given, None] = None
        try:
            while True:
                step = flow.send(answer)
                if isinstance(step, Request):
                    answer = self._transport.send(step)
                elif isinstance(step, Wanted):
                    answer = Given(_at_once(step.source()))
                else:
                    answer = None
                    if isinstance(step, Sleep):
                        time.sleep(step.seconds)
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            flow.close()

    def _wait(self, settled: Settled, seconds: float) -> None:
        wait([settled], seconds)

    # Tasks and artifacts

    def create_task(
        self,
        name: str,
        description: str,
        input_schema: Any,
        output_schema: Any,
        examples: Optional[Iterable[Any]] = None,
        accuracy_target: Optional[float] = None,
        latency_target_ms: Optional[int] = None,
        sampling_rate: Optional[float] = None,
        **options: Unpack[RequestOptions],
    ) -> models.Task:
        """Create a task. A schema is a JSON schema or a pydantic model class; examples are
        `{"input": …, "output": …}`. What is `None` takes the server's default.

        Raises `ValidationException` (`.errors` by field) and `ConflictException` for a name that is taken.
        """
        return self._run(
            operations.create_task(
                name,
                description,
                input_schema,
                output_schema,
                examples,
                accuracy_target,
                latency_target_ms,
                sampling_rate,
            ),
            options,
        )

    def get_task(self, task_id: Id, **options: Unpack[RequestOptions]) -> models.Task:
        """The task. Raises `NotFoundException`."""
        return self._run(operations.get_task(self._task(task_id)), options)

    def list_tasks(self, **options: Unpack[RequestOptions]) -> models.ReplyList[models.Task]:
        """All tasks, oldest first. An addition of the embedded server; elsewhere raises `NotSupportedException`."""
        return self._run(operations.list_tasks(), options)

    def get_task_by_name(self, name: str, **options: Unpack[RequestOptions]) -> models.Task:
        """The task of that name. An addition of the embedded server; elsewhere raises `NotSupportedException`."""
        return self._run(operations.get_task_by_name(name), options)

    def list_artifacts(
        self, task_id: Id, **options: Unpack[RequestOptions]
    ) -> models.ReplyList[models.ProgramArtifact]:
        """The task's programs by ascending version; empty for an unknown task."""
        return self._run(operations.list_artifacts(self._task(task_id)), options)

    def get_artifact(self, task_id: Id, version: int, **options: Unpack[RequestOptions]) -> models.ProgramArtifact:
        """One version of the task's program. Raises `NotFoundException`."""
        return self._run(operations.get_artifact(self._task(task_id), version), options)

    def push_program(
        self,
        task_id: Id,
        code: str,
        language: str = "python",
        *,
        activate: bool = True,
        **options: Unpack[RequestOptions],
    ) -> models.ProgramArtifact:
        """Add a program of your own as the task's next version; it becomes the active one unless `activate=False`.

        An addition of the embedded server; elsewhere raises `NotSupportedException`. Raises `ValidationException` for
        code that does not load or defines no `main`.
        """
        return self._run(operations.push_program(self._task(task_id), code, language, activate), options)

    def activate(self, task_id: Id, version: int, **options: Unpack[RequestOptions]) -> models.ProgramArtifact:
        """Make a version the active one; later active versions are retired. Raises `NotFoundException`.

        An addition of the embedded server; elsewhere raises `NotSupportedException`.
        """
        return self._run(operations.activate(self._task(task_id), version), options)

    def retire(self, task_id: Id, version: int, **options: Unpack[RequestOptions]) -> models.ProgramArtifact:
        """Take a version out of use; the highest other active version runs. Raises `NotFoundException`.

        An addition of the embedded server; elsewhere raises `NotSupportedException`.
        """
        return self._run(operations.retire(self._task(task_id), version), options)

    def add_examples(self, task_id: Id, examples: Iterable[Any], **options: Unpack[RequestOptions]) -> models.Task:
        """Add examples (`{"input": …, "output": …}`) to a task; one with the same input replaces the earlier one.

        Active programs stay as they are; `generate` makes the next version. Raises `NotFoundException`. An addition of
        the embedded server; elsewhere raises `NotSupportedException`.
        """
        return self._run(operations.add_examples(self._task(task_id), examples), options)

    def generate(self, task_id: Id, **options: Unpack[RequestOptions]) -> models.ProgramArtifact:
        """Make the next version of a task's program from its examples, and return it.

        Its `status` is `active` where it is better than the active version, or the first; otherwise `draft`. Waits
        until the program is made: up to 100 seconds more than `timeout`. Raises `ExecutionException` where no program
        can be made, saying why. An addition of the embedded server; elsewhere raises `NotSupportedException`.
        """
        return self._run(operations.generate(self._task(task_id)), options)

    def delete_task(self, task_id: Id, **options: Unpack[RequestOptions]) -> None:
        """Delete a task with its examples, programs and executions. Raises `NotFoundException`.

        An addition of the embedded server; elsewhere raises `NotSupportedException`.
        """
        self._run(operations.delete_task(self._task(task_id)), options)

    # Executions

    def execute(
        self,
        task_id: Id,
        input_data: Any,
        version: Optional[int] = None,
        timeout_ms: Optional[int] = None,
        force_validation: bool = False,
        *,
        raise_on_error: Maybe[bool] = NOT_GIVEN,
        **options: Unpack[RequestOptions],
    ) -> models.ExecutionResult:
        """Run the task's active program, or `version` of it, on one input (any JSON value or pydantic model).

        `timeout_ms` bounds the program, in milliseconds (server's default 5000). Raises `ExecutionException` for a
        program that failed, with the result on it; `raise_on_error=False` returns that result instead.

        With `coalesce=True` calls of the same moment travel as one batch request, whose slowest item delays them;
        `program_id` and `executed_at` are then `None`, and a refused input is an `ExecutionException`.
        """
        task, raises = self._task(task_id), self._raises(raise_on_error)
        if options or not self._config.coalesce:
            return self._run(
                operations.execute(task, input_data, version, timeout_ms, force_validation, raises), options
            )
        key = Key(task, version, timeout_ms, force_validation)
        result = self._coalescer.execute(key, encode(input_data, "input"))
        error = failed_program(result) if raises else None
        if error is not None:
            raise error
        return result

    def batch_execute(
        self,
        task_id: Id,
        inputs: Iterable[Any],
        max_concurrency: int = 10,
        *,
        missing: Missing = "null",
        **options: Unpack[RequestOptions],
    ) -> models.BatchExecuteResponse:
        """Run many inputs in one request; results come in their order, numbered "0", "1", ….

        `inputs` are rows: any iterable, or a DataFrame or Series, whose missing values (NaN, `pd.NA`, NaT) are sent as
        null, or refused with `missing="error"`. `max_concurrency` is the server's, 1–100. Never raises for an item that
        failed: see `success` on each result. Raises `ValidationException` for a text or mapping in place of rows.
        """
        task = self._task(task_id)
        request = operations.batch_of(task, inputs, max_concurrency, missing)
        return self._run(operations.batch_execute(request, task), options)

    @overload
    def batch_execute_advanced(
        self,
        request: Union[models.BatchExecuteRequest, Mapping[str, Any]],
        *,
        missing: Missing = "null",
        **options: Unpack[RequestOptions],
    ) -> models.BatchExecuteResponse: ...

    @overload
    def batch_execute_advanced(
        self,
        *,
        task_id: Id,
        items: Iterable[Item],
        version: Maybe[Optional[int]] = NOT_GIVEN,
        max_concurrency: Maybe[int] = NOT_GIVEN,
        stop_on_first_error: Maybe[bool] = NOT_GIVEN,
        timeout_ms: Maybe[Optional[int]] = NOT_GIVEN,
        missing: Missing = "null",
        **options: Unpack[RequestOptions],
    ) -> models.BatchExecuteResponse: ...

    def batch_execute_advanced(
        self,
        request: Union[models.BatchExecuteRequest, Mapping[str, Any], None] = None,
        *,
        task_id: Maybe[Id] = NOT_GIVEN,
        items: Maybe[Iterable[Item]] = NOT_GIVEN,
        version: Maybe[Optional[int]] = NOT_GIVEN,
        max_concurrency: Maybe[int] = NOT_GIVEN,
        stop_on_first_error: Maybe[bool] = NOT_GIVEN,
        timeout_ms: Maybe[Optional[int]] = NOT_GIVEN,
        missing: Missing = "null",
        **options: Unpack[RequestOptions],
    ) -> models.BatchExecuteResponse:
        """Run items with ids of your own, given as one request or by its parts; items as models, dicts or a DataFrame.

        `missing` says what becomes of missing values in a DataFrame, as in `batch_execute`. `timeout_ms` bounds each
        item, in milliseconds. Never raises for an item that failed; raises `ValidationException` naming item and field
        for one that cannot be sent.
        """
        parts = {
            "task_id": task_id,
            "items": items,
            "version": version,
            "max_concurrency": max_concurrency,
            "stop_on_first_error": stop_on_first_error,
            "timeout_ms": timeout_ms,
        }
        return self._run(self._batch(request, parts, missing), options)

    def batch_validate(
        self, task_id: Id, items: Iterable[Item], *, missing: Missing = "null", **options: Unpack[RequestOptions]
    ) -> models.BatchValidateResponse:
        """Compare outputs with expected ones (`id`, `input`, `output`, `expected_output`).

        `items` are models, dicts, or a DataFrame, whose missing values `missing` treats as in `batch_execute`.
        """
        return self._run(operations.batch_validate(self._task(task_id), items, missing), options)

    def bind(self, task_id: Id, *, input: TypeForm[In], output: TypeForm[Out]) -> SyncBoundTask[In, Out]:  # noqa: A002  # fixed name
        """The task as a callable from `input` to `output`: pydantic models, `Literal[…]`, unions, any other types."""
        return SyncBoundTask(self, self._task(task_id), input, output, self._name_of(task_id))

    def load_program(
        self, task_id: Id, version: Optional[int] = None, *, refresh_interval: Optional[float] = 60.0
    ) -> SyncEdgeProgram:
        """The task's active program, or `version` of it, to run in this process: `program(input)`, `program.map(…)`.

        A newer version is looked for every `refresh_interval` seconds (`None`: never) unless `version` is given.
        Raises `NotSupportedException` for a program that is neither Python nor TypeScript, `ConfigurationError`
        without the sandbox that its language needs.
        """
        from . import edge

        edge.program_pool()
        pinned = version is not None
        task = self.get_task(task_id)
        if version is None:
            version = edge.version_to_load(task, self.list_artifacts(task.id))
        artifact = self.get_artifact(task.id, version)
        loaded = edge.Loaded(task, artifact)
        return edge.SyncEdgeProgram(self, str(task.id), loaded, self._config.raise_on_error, pinned, refresh_interval)

    # Many rows

    def batch_stream(
        self,
        task_id: Id,
        rows: SyncRows,
        *,
        key: RowKey = None,
        mapping: Mapped = None,
        allow_duplicates: bool = False,
        limit: Optional[int] = None,
        missing: Missing = "null",
        chunk_size: int = 100,
        max_in_flight: int = 4,
        max_concurrency: int = 10,
        ordered: bool = False,
        max_errors: Union[int, str, None] = None,
        min_confidence: Optional[float] = None,
        timeout_ms: Optional[int] = None,
        version: Optional[int] = None,
        force_validation: bool = False,
        mode: Literal["resume", "retry_failed"] = "resume",
        journal: Union[str, PathLike[str], Journal, None] = None,
        format: Optional[str] = None,  # noqa: A002  # as the flag is called
        delimiter: Optional[str] = None,
        quotechar: Optional[str] = None,
        escapechar: Optional[str] = None,
        encoding: str = "utf-8",
        skip_lines: int = 0,
        comment: Optional[str] = None,
        no_header: bool = False,
        sheet: Optional[str] = None,
        types: Optional[Mapping[str, str]] = None,
        stop: Optional[Stop] = None,
    ) -> Outcomes:
        """Run any number of rows, and give each one's outcome as it ends: `ok`, `doubtful`, `error` or `cancelled`.

        `rows` is any iterable (for `LoopaiClient` also an asynchronous one), or the path of a CSV, JSONL or Parquet
        file, also gzipped, or such a file opened in binary mode. A DataFrame (pandas, polars, others by narwhals) or
        Series is taken row by row; a missing value in it is sent as null, or with `missing="error"` ends its row as an
        error. Rows are pulled only as fast as
        they are sent, `chunk_size` to a request, with at most `max_in_flight` requests in flight, of each of which the
        server runs `max_concurrency` rows at a time.

        `key` names a row (a column, dotted if it lies deeper, or a function of the row); without it, rows are numbered
        from 1. `mapping` (`["text=body"]`) makes the program's input of a row; without it the row is the input.
        `journal` (a path) records which rows have ended: a later call with the same journal skips those, or with
        `mode="retry_failed"` only those that ended ok. `max_errors` (20, or "5%") stops the run when more rows have
        failed, `limit` after so many rows. With `min_confidence` (0 to 1), rows whose program is less certain end as
        `doubtful`, with their output; programs that choose among labels say how certain they are. `timeout_ms` is how
        many milliseconds a row's program may take. `ordered` keeps the order of the rows. `format`, `delimiter`,
        `quotechar`, `escapechar`, `encoding`, `skip_lines`, `comment`, `no_header`, `sheet` and `types` say how a file
        is read where that is not detected. Calling `stop` ends the run early.

        `task_id` is the task's id or name, `version` a version of its program instead of the active one. With
        `mode="resume"` (the default) finished rows are skipped. `allow_duplicates` lets rows share a key. `missing`
        says what missing values of a DataFrame become: `"null"`, or `"error"`. `force_validation` has the server
        validate every result.

        A row never raises. Raises the `LoopaiException` where the server cannot be reached or refuses the run, and
        `ConfigurationError` for options that do not fit, keys that occur twice in a file, or a journal of another run.
        """
        from . import batch

        task = self._task(task_id)
        return batch.stream_sync(
            batch_sender(self),
            task,
            rows,
            batch.BatchOptions(
                key=key,
                mapping=mapping,
                allow_duplicates=allow_duplicates,
                limit=limit,
                missing=missing,
                chunk_size=chunk_size,
                max_in_flight=max_in_flight,
                max_concurrency=max_concurrency,
                ordered=ordered,
                max_errors=max_errors,
                min_confidence=min_confidence,
                timeout_ms=timeout_ms,
                version=version,
                force_validation=force_validation,
                mode=mode,
                journal=journal,
                format=format,
                delimiter=delimiter,
                quotechar=quotechar,
                escapechar=escapechar,
                encoding=encoding,
                skip_lines=skip_lines,
                comment=comment,
                no_header=no_header,
                sheet=sheet,
                types=types,
                stop=stop,
            ),
            names=self._names_for(task),
        )

    def run_batch(
        self,
        task_id: Id,
        rows: SyncRows,
        output: Union[str, PathLike[str], IO[bytes], None] = None,
        *,
        key: RowKey = None,
        mapping: Mapped = None,
        allow_duplicates: bool = False,
        limit: Optional[int] = None,
        missing: Missing = "null",
        expect: Optional[str] = None,
        chunk_size: int = 100,
        max_in_flight: int = 4,
        max_concurrency: int = 10,
        ordered: bool = False,
        max_errors: Union[int, str, None] = None,
        min_confidence: Optional[float] = None,
        timeout_ms: Optional[int] = None,
        version: Optional[int] = None,
        force_validation: bool = False,
        mode: Mode = "new",
        journal: Union[str, PathLike[str], Journal, None] = None,
        sink: Optional[Sink] = None,
        output_format: Optional[str] = None,
        format: Optional[str] = None,  # noqa: A002  # as the flag is called
        delimiter: Optional[str] = None,
        quotechar: Optional[str] = None,
        escapechar: Optional[str] = None,
        encoding: str = "utf-8",
        skip_lines: int = 0,
        comment: Optional[str] = None,
        no_header: bool = False,
        sheet: Optional[str] = None,
        types: Optional[Mapping[str, str]] = None,
        stop: Optional[Stop] = None,
        watchers: Sequence[Watcher] = (),
    ) -> Summary:
        """Run any number of rows into `output` (a JSONL, CSV or Parquet file) or `sink`, and return the summary.

        Rows and options are those of `batch_stream`. `mode` says what to do with an output that exists: `"resume"`
        skips the rows that have ended, `"retry_failed"` only those that ended ok, `"continue"` is `"resume"` that
        starts silently where there is nothing to resume, `"overwrite"` starts again, and `"new"` refuses. The journal
        lies beside the output unless `journal` names another path. `expect` is the column with the right answers: the
        summary then has accuracy and confusion matrix, and the column is not sent. `watchers` are called while the run
        is in progress.

        `task_id`, `rows`, `key`, `mapping`, `limit`, `missing`, `version`, `force_validation`, `allow_duplicates`,
        `chunk_size`, `max_in_flight`, `max_concurrency`, `max_errors`, `min_confidence`, `timeout_ms`, `ordered`,
        `stop` and what says how a file is read (`format`, `delimiter`, `quotechar`, `escapechar`, `encoding`,
        `skip_lines`, `comment`, `no_header`, `sheet`, `types`) are as in `batch_stream`; `output_format` is that of the
        output where its name does not say it.

        Raises `ConfigurationError` before a row is sent, `OutputError` where the output cannot be written, and the
        `LoopaiException` where the server cannot be reached or refuses the run. After any of them, run it again with
        `mode="resume"` to continue.
        """
        from . import batch

        task = self._task(task_id)
        return batch.run_sync(
            batch_sender(self),
            task,
            rows,
            output,
            batch.BatchOptions(
                key=key,
                mapping=mapping,
                allow_duplicates=allow_duplicates,
                limit=limit,
                missing=missing,
                expect=expect,
                chunk_size=chunk_size,
                max_in_flight=max_in_flight,
                max_concurrency=max_concurrency,
                ordered=ordered,
                max_errors=max_errors,
                min_confidence=min_confidence,
                timeout_ms=timeout_ms,
                version=version,
                force_validation=force_validation,
                mode=mode,
                journal=journal,
                sink=sink,
                output_format=output_format,
                format=format,
                delimiter=delimiter,
                quotechar=quotechar,
                escapechar=escapechar,
                encoding=encoding,
                skip_lines=skip_lines,
                comment=comment,
                no_header=no_header,
                sheet=sheet,
                types=types,
                stop=stop,
                watchers=watchers,
            ),
            names=self._names_for(task),
        )

    # Health

    def get_health(self, **options: Unpack[RequestOptions]) -> models.HealthResponse:
        """The server's word that it runs, with version and environment."""
        return self._run(operations.get_health(), options)

    def get_detailed_health(self, **options: Unpack[RequestOptions]) -> models.DetailedHealthResponse:
        """Health by component; a degraded server's answer (503) is a result."""
        return self._run(operations.get_detailed_health(), options)

    def get_ready(self, **options: Unpack[RequestOptions]) -> models.ReadyResponse:
        """Whether the server takes work; `not_ready` (503) is a result."""
        return self._run(operations.get_ready(), options)

    def get_live(self, **options: Unpack[RequestOptions]) -> models.LiveResponse:
        """The server's process answers."""
        return self._run(operations.get_live(), options)

    def get_plain_health(self, **options: Unpack[RequestOptions]) -> models.HealthResponse:
        """`GET /health`, one word, made into a `HealthResponse`; what load balancers ask."""
        return self._run(operations.get_plain_health(), options)

    def get_metrics(self, **options: Unpack[RequestOptions]) -> models.ReplyText:
        """The server's metrics as Prometheus text."""
        return self._run(operations.get_metrics(), options)

    # Validation, comparison, canaries

    def get_validation_summary(self, program_id: Id, **options: Unpack[RequestOptions]) -> models.ValidationSummary:
        """A program's validation statistics; zeros for an unknown program."""
        return self._run(operations.get_validation_summary(id_of(program_id, "program_id")), options)

    def get_recommendations(
        self, program_id: Id, **options: Unpack[RequestOptions]
    ) -> models.ImprovementRecommendation:
        """Whether a program should be improved, and why."""
        return self._run(operations.get_recommendations(id_of(program_id, "program_id")), options)

    def improve_program(self, program_id: Id, **options: Unpack[RequestOptions]) -> models.ImprovementResult:
        """Have a draft made from the program's failures. Raises `ValidationException` where none is needed."""
        return self._run(operations.improve_program(id_of(program_id, "program_id")), options)

    def compare_programs(
        self,
        control_program_id: Id,
        treatment_program_id: Id,
        configuration: Union[models.ComparisonConfiguration, Mapping[str, Any], None] = None,
        **options: Unpack[RequestOptions],
    ) -> models.ComparisonResult:
        """Compare two programs by their recent executions."""
        control = id_of(control_program_id, "control_program_id")
        treatment = id_of(treatment_program_id, "treatment_program_id")
        return self._run(operations.compare_programs(control, treatment, configuration), options)

    def start_canary(
        self, task_id: Id, new_program_id: Id, **options: Unpack[RequestOptions]
    ) -> models.CanaryDeployment:
        """Bring a program in at 5 percent. Raises `ValidationException` where a canary is under way."""
        return self._run(operations.start_canary(self._task(task_id), id_of(new_program_id, "new_program_id")), options)

    def progress_canary(self, canary_id: Id, **options: Unpack[RequestOptions]) -> models.CanaryDeployment:
        """Take a canary to its next stage, or have it paused or rolled back: read `status`."""
        return self._run(operations.progress_canary(id_of(canary_id, "canary_id")), options)

    def rollback_canary(self, canary_id: Id, reason: str, **options: Unpack[RequestOptions]) -> models.CanaryDeployment:
        """Take a canary back, in any state, for a `reason` of at most 500 characters."""
        return self._run(operations.rollback_canary(id_of(canary_id, "canary_id"), reason), options)

    def get_canary(self, task_id: Id, **options: Unpack[RequestOptions]) -> Optional[models.CanaryDeployment]:
        """The task's canary in progress; `None` if there is none."""
        return self._run(operations.get_canary(self._task(task_id)), options)

    # Webhooks

    def subscribe_webhook(
        self,
        url: str,
        event_types: Sequence[Union[models.EventTypeName, int]],
        secret: Optional[str] = None,
        max_retries: Optional[int] = None,
        timeout_seconds: Optional[int] = None,
        headers: Optional[Mapping[str, str]] = None,
        **options: Unpack[RequestOptions],
    ) -> models.WebhookSubscription:
        """Have events delivered to `url`, signed with `secret`.

        `max_retries` is the server's total of attempts a delivery, `timeout_seconds` the bound of each.

        Raises `ValidationException` for an unknown event type or an address that is none.
        """
        operation = operations.subscribe_webhook(url, event_types, secret, max_retries, timeout_seconds, headers)
        del secret, headers  # a traceback that shows variables shows those of this frame
        return self._run(operation, options)

    def unsubscribe_webhook(self, subscription_id: Id, **options: Unpack[RequestOptions]) -> None:
        """End a subscription. Raises `NotFoundException`."""
        self._run(operations.unsubscribe_webhook(id_of(subscription_id, "subscription_id")), options)

    def list_executions(
        self,
        task_id: Id,
        limit: int = 100,
        before: Optional[str] = None,
        status: Optional[str] = None,
        **options: Unpack[RequestOptions],
    ) -> models.ReplyList[models.ExecutionRecord]:
        """The task's recorded executions with their inputs, newest first, at most `limit` (1 to 1,000).

        `status` is `"success"` or `"error"`, None for both. Where there are more, the reply's header `x-next-cursor` is
        the next page's `before`. An addition of the embedded server; elsewhere raises `NotSupportedException`.
        """
        return self._run(operations.list_executions(self._task(task_id), limit, before, status), options)

    def export_executions(
        self, task_id: Id, status: Optional[str] = None, **options: Unpack[RequestOptions]
    ) -> models.ReplyText:
        """All of the task's recorded executions, newest first, a line of JSON each, at most `max_reply_bytes`.

        An addition of the embedded server; elsewhere raises `NotSupportedException`.
        """
        return self._run(operations.export_executions(self._task(task_id), status), options)

    def delete_executions(self, older_than_days: int, **options: Unpack[RequestOptions]) -> models.DeletedExecutions:
        """Delete recorded executions of all tasks that are older; 0 for all. The reply says how many.

        An addition of the embedded server; elsewhere raises `NotSupportedException`.
        """
        return self._run(operations.delete_executions(older_than_days), options)

    def list_webhooks(self, **options: Unpack[RequestOptions]) -> models.ReplyList[models.WebhookSubscription]:
        """All subscriptions, in no order. The server gives their secrets in clear."""
        return self._run(operations.list_webhooks(), options)

    def get_webhook_history(
        self, subscription_id: Id, limit: int = 100, **options: Unpack[RequestOptions]
    ) -> models.ReplyList[models.WebhookDelivery]:
        """The latest attempts to deliver, newest first; empty for an unknown subscription."""
        return self._run(operations.get_webhook_history(id_of(subscription_id, "subscription_id"), limit), options)


def _at_once(given: Any) -> Any:
    """What was given, of which nothing may have to be waited for."""
    if inspect.isawaitable(given):
        if inspect.iscoroutine(given):
            given.close()
        raise ConfigurationError(
            "SyncLoopaiClient cannot wait for a coroutine: give it an api_key and hooks that are plain functions, or "
            "use LoopaiClient"
        )
    return given
