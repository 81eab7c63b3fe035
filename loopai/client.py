"""`LoopaiClient` and `SyncLoopaiClient`: their methods, and how each performs a call. What a call does is in `_core`.

To add an endpoint: one operation in `_core/operations.py`, one method in each class here, one test.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Callable, Literal, Optional, TypeVar, Union, overload

from typing_extensions import Self, Unpack

from . import models
from ._core import operations
from ._core.encoding import encode
from ._core.flow import Given, Sleep, Steps, Wanted
from ._core.hooks import Hooks
from ._core.operations import Item, Operation, failed_program, id_of
from ._core.rowsets import Missing
from ._core.waiting import ON_PROGRESS
from ._core.wire import Answer, Request
from ._loop import running_loop
from .bound import In, Out, TypedTask
from .coalescing import Coalescer, Key, SyncCoalescer, nobody
from .config import NOT_GIVEN, Arguments, Cert, KeySource, Maybe, TransportName
from .exceptions import ConfigurationError
from .language_model import Redactor, Unverified
from .options import ClientOptions, RequestOptions
from .performers import LoopPerformer, ThreadPerformer
from .preparation import Id, PreparedClient, batch_sender
from .transports import AsyncTransport, Transport, open_async, open_sync

if TYPE_CHECKING:
    import ssl

    from typing_extensions import TypeForm

    from .batch import Journal, Sink, Stop, Summary, Watcher
    from .batch.api import AsyncOutcomes, Mapped, Outcomes, Rows, SyncRows
    from .batch.engine.reader import Key as RowKey
    from .edge import EdgeProgram, SyncEdgeProgram
    from .modes import Mode
    from .transports import AsyncHttpClient, HttpClient

T = TypeVar("T")


class BoundTask(TypedTask[In, Out]):
    """A task bound by `LoopaiClient.bind`: call it with an input and get an output."""

    def __init__(self, client: LoopaiClient, task_id: str, given: TypeForm[In], made: TypeForm[Out], name: str) -> None:
        super().__init__(task_id, given, made, name)
        self._client = client
        if sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(self)

    @property
    def function(self) -> Callable[..., Awaitable[Out]]:
        """The task as a coroutine function, for code that accepts nothing else (agents' tools before Python 3.12)."""

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

        Raises `ValidationException` for an input that is not of the bound type, `ExecutionException` if the program
        fails or its output is not of the bound type, and whatever `execute` raises.
        """
        sent = self._input(value)
        result = await self._client.execute(self.task_id, sent, version, timeout_ms, raise_on_error=True, **options)
        return self._output(result)


class LoopaiClient(PreparedClient):
    """The asynchronous client: `async with LoopaiClient(...) as client: await client.execute(...)`.

    Parameters. Each except `http_client` and `hooks` can also be set as an environment variable (`LOOPAI_BASE_URL`, …);
    the argument takes precedence:

    - `base_url`: address of the server, by default `http://localhost:8080`.
    - `api_key`: bearer token, or a function that returns one and is called before each attempt.
    - `timeout`: time limit for one attempt, in seconds (30); None for no limit.
    - `max_retries`: retries after the first attempt (3); None for no limit.
    - `deadline`: time limit for a whole call with its retries and pauses, in seconds; None (default) for no limit.
    - `max_connections`: most connections, and therefore most requests in flight, of a process (100).
    - `max_reply_bytes`: largest reply, in decoded bytes (64,000,000); None for no limit.
    - `transport`: `"httpx"`, `"httpx2"`, `"pyreqwest"`, or a transport object.
    - `coalesce`: send `execute` calls made at the same moment as one batch request.
    - `tasks`: names for task ids.
    - `http_client`: your own `httpx.AsyncClient`; you close it yourself. Its `base_url` is used unless you pass one.
    - `validate_inputs`: whether to check inputs against their task's input schema before they are sent; needs
      `jsonschema-rs`. An input that does not fit is not sent: a `ValidationException`, or the error of its item or row.
    - `raise_on_error`: whether `execute` raises if the program fails (True).
    - `retry_unknown`: whether `execute` and batches are retried if the request may already have arrived (True).
    - `retry_waits`: whether to pause between attempts (True); turn it off in tests.
    - `rate_limit`: most requests to send, such as `"30/minute"`.
    - `verify`: TLS verification: True, False, `"system"`, the path of a CA file, or an `ssl.SSLContext`.
    - `cert`: client certificate: a path, or `(certificate, key[, password])`.
    - `proxy`: address of a proxy; takes precedence over the environment's.
    - `trust_env`: whether to use the environment's proxies (True).
    - `headers`: headers sent with every request.
    - `webhook_secrets`: secrets that webhook deliveries are signed with, newest first.
    - `webhook_tolerance`: greatest age of a webhook event, in seconds (3,600); None for any.
    - `telemetry`: record OpenTelemetry spans and metrics.
    - `local`: run on an embedded server in this process: True, or its data folder.
    - `llm_model`: language model that writes programs for an embedded server; examples are sent to it. Its options are
      `llm_base_url` and `llm_api_key` (endpoint and key), `llm_examples` (most examples sent), `llm_redact` (a function
      that changes each example before it is sent), `llm_max_tokens`, `llm_seconds` and `llm_max_cost` (limits for one
      generation), `llm_prices` (dollars per million tokens, input and output), `llm_unverified` (status of a program
      that no examples could check: `"active"` or `"draft"`).
    - `hooks`: objects called on every call, attempt and retry.

    Use one client for any number of tasks, event loops and forked children.

    Raises `ConfigurationError` for invalid options. Calls raise subclasses of `LoopaiException`.
    """

    _performer = LoopPerformer()

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
        validate_inputs: Maybe[bool] = NOT_GIVEN,
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
                "validate_inputs": validate_inputs,
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
        # Tracebacks that show variables would show the key of this frame.
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
        """The transport that sends requests. This client closes it, unless you passed it."""
        return self._transport

    @classmethod
    def local(cls, path: Union[str, PathLike[str], None] = None, **options: Unpack[ClientOptions]) -> Self:
        """Return a client on an embedded server in this process: the same calls, and no server to start.

        `path` is the folder for its data; several processes may share one. Without it the data lives as long as the
        process. `options` are those of the class. Raises `ConfigurationError` if the server's libraries are not
        installed.
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
        return await self._drive(self._flow(operation, options))

    async def _drive(self, flow: Steps[T]) -> T:
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
        *,
        wait: bool = False,
        on_progress: Optional[ON_PROGRESS] = None,
        **options: Unpack[RequestOptions],
    ) -> models.Task:
        """Create a task. A schema is a JSON schema or a pydantic model class. Examples are
        `{"input": …, "output": …}`; an input without an output is a known input. Parameters that are `None` take the
        server's default.

        The embedded server begins to make the program at once. With `wait=True`, the call returns when the program is
        made or could not be: the task's `generation` has the score or the reason, `warnings` and `questions` what is
        in doubt. Meanwhile `on_progress` is called with `generation`. The client's `deadline` bounds the wait. The
        published server makes programs at the first execution: there, `wait=True` raises `NotSupportedException` and
        creates no task.

        Raises `ValidationException` (`.errors` by field), `ConflictException` if the name is taken, and
        `TimeoutException` after the deadline (the task then exists).
        """
        operation = operations.create_task(
            name,
            description,
            input_schema,
            output_schema,
            examples,
            accuracy_target,
            latency_target_ms,
            sampling_rate,
        )
        if wait:
            return await self._drive(self._waiting(operation, options, on_progress, ask_first=True))
        return await self._run(operation, options)

    async def get_task(self, task_id: Id, **options: Unpack[RequestOptions]) -> models.Task:
        """Return the task. Raises `NotFoundException`."""
        return await self._run(operations.get_task(self._task(task_id)), options)

    async def list_tasks(self, **options: Unpack[RequestOptions]) -> models.ReplyList[models.Task]:
        """Return all tasks, oldest first. Embedded server only; elsewhere raises `NotSupportedException`."""
        return await self._run(operations.list_tasks(), options)

    async def get_task_by_name(self, name: str, **options: Unpack[RequestOptions]) -> models.Task:
        """Return the task of that name. Embedded server only; elsewhere raises `NotSupportedException`."""
        return await self._run(operations.get_task_by_name(name), options)

    async def list_artifacts(
        self, task_id: Id, **options: Unpack[RequestOptions]
    ) -> models.ReplyList[models.ProgramArtifact]:
        """Return the task's programs by ascending version; an empty list for an unknown task."""
        return await self._run(operations.list_artifacts(self._task(task_id)), options)

    async def get_artifact(
        self, task_id: Id, version: int, **options: Unpack[RequestOptions]
    ) -> models.ProgramArtifact:
        """Return one version of the task's program. Raises `NotFoundException`."""
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
        """Add your own program as the task's next version. It becomes the active one unless `activate=False`.

        Embedded server only; elsewhere raises `NotSupportedException`. Raises `ValidationException` for
        code that does not load or defines no `main`.
        """
        return await self._run(operations.push_program(self._task(task_id), code, language, activate), options)

    async def activate(self, task_id: Id, version: int, **options: Unpack[RequestOptions]) -> models.ProgramArtifact:
        """Activate a version. Later active versions are retired. Raises `NotFoundException`.

        Embedded server only; elsewhere raises `NotSupportedException`.
        """
        return await self._run(operations.activate(self._task(task_id), version), options)

    async def retire(self, task_id: Id, version: int, **options: Unpack[RequestOptions]) -> models.ProgramArtifact:
        """Retire a version. The highest remaining active version runs instead. Raises `NotFoundException`.

        Embedded server only; elsewhere raises `NotSupportedException`.
        """
        return await self._run(operations.retire(self._task(task_id), version), options)

    async def add_examples(
        self, task_id: Id, examples: Iterable[Any], **options: Unpack[RequestOptions]
    ) -> models.Task:
        """Add examples (`{"input": …, "output": …}`) to a task. One with the same input replaces the earlier one.

        Existing programs do not change; call `generate` to make the next version. Raises `NotFoundException`. Embedded
        server only; elsewhere raises `NotSupportedException`.
        """
        return await self._run(operations.add_examples(self._task(task_id), examples), options)

    @overload
    async def generate(
        self,
        task_id: Id,
        *,
        wait: Literal[True] = True,
        on_progress: Optional[ON_PROGRESS] = None,
        **options: Unpack[RequestOptions],
    ) -> models.ProgramArtifact: ...

    @overload
    async def generate(
        self, task_id: Id, *, wait: Literal[False], on_progress: None = None, **options: Unpack[RequestOptions]
    ) -> models.Task: ...

    async def generate(
        self,
        task_id: Id,
        *,
        wait: bool = True,
        on_progress: Optional[ON_PROGRESS] = None,
        **options: Unpack[RequestOptions],
    ) -> Union[models.ProgramArtifact, models.Task]:
        """Make the next version of a task's program from its examples, and return it.

        Its `status` is `active` if it is the first, or better than the active version on today's examples; otherwise
        `draft`, and `notes` say why. A language model gets the active version and its mistakes. Waits until
        the program is made: up to 300 seconds longer than `timeout`, or, with `on_progress`, which is called with the
        task's `generation`, as long as the client's `deadline` allows. With `wait=False`, returns the task at once;
        `generation` of `get_task` then shows its state.

        Raises `ExecutionException`, with the reason, if no program can be made. Embedded server only; elsewhere
        raises `NotSupportedException`.
        """
        task = self._task(task_id)
        if not wait:
            return await self._run(operations.start_generating(task), options)
        if on_progress is not None:
            return await self._drive(self._generating(task, options, on_progress))
        return await self._run(operations.generate(task), options)

    async def delete_task(self, task_id: Id, **options: Unpack[RequestOptions]) -> None:
        """Delete a task with its examples, programs and executions. Raises `NotFoundException`.

        Embedded server only; elsewhere raises `NotSupportedException`.
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
        """Run the task's active program, or version `version`, on one input (any JSON value or a pydantic model).

        `timeout_ms` is the program's time limit, in milliseconds (the server's default is 5000). Raises
        `ExecutionException`, which has the result, if the program fails; `raise_on_error=False` returns that result
        instead.

        With `coalesce=True`, calls made at the same moment are sent as one batch request and wait for its slowest item.
        Then `program_id` and `executed_at` are `None`, and a rejected input raises `ExecutionException`.
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
        """Run many inputs in one request. Results have the order of the inputs and the ids "0", "1", ….

        `inputs` is any iterable, or a DataFrame or Series, whose missing values (NaN, `pd.NA`, NaT) are sent as null,
        or rejected with `missing="error"`. `max_concurrency` is how many items the server runs at a time, 1–100. Items
        that fail do not raise: check `success` of each result. Raises `ValidationException` for a string or mapping.
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
        """Run items with your own ids. Pass one request or its parts; items are models, dicts or a DataFrame.

        `missing` says how missing values of a DataFrame are sent, as in `batch_execute`. `timeout_ms` is the time limit
        of each item, in milliseconds. Items that fail do not raise. Raises `ValidationException`, which names item and
        field, for an item that cannot be sent.
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

        `items` are models, dicts, or a DataFrame; `missing` is as in `batch_execute`.
        """
        return await self._run(operations.batch_validate(self._task(task_id), items, missing), options)

    def bind(self, task_id: Id, *, input: TypeForm[In], output: TypeForm[Out]) -> BoundTask[In, Out]:  # noqa: A002  # fixed name
        """Return the task as a typed callable. The types may be pydantic models, `Literal[…]`, unions and others."""
        return BoundTask(self, self._task(task_id), input, output, self._name_of(task_id))

    async def load_program(
        self, task_id: Id, version: Optional[int] = None, *, refresh_interval: Optional[float] = 60.0
    ) -> EdgeProgram:
        """Load the task's active program, or version `version`, to run it in this process: `program(input)`.

        `program.map(inputs)` runs many. Unless `version` is given, it checks for a newer version every
        `refresh_interval` seconds (`None`: never). Raises `NotSupportedException` for a program that is neither Python
        nor TypeScript, and `ConfigurationError` if the sandbox for its language is not installed.
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
        """Run any number of rows and yield each row's outcome when it finishes: `ok`, `doubtful`, `error`, `cancelled`.

        `rows` is any iterable (with `LoopaiClient` also an asynchronous one), the path of a CSV, JSON, JSONL, Parquet
        or Excel file, which may be compressed, or such a file opened in binary mode. A DataFrame (pandas, polars and
        others) or Series is read row by row. Rows are read only as fast as they are sent.

        - `task_id`: the task's id or name.
        - `key`: name of each row: a column, dotted for nested values, or a function of the row. Without it, rows are
          numbered from 1.
        - `mapping`: how the program's input is made of a row, such as `["text=body"]`. Default: the row.
        - `allow_duplicates`: allow rows to share a key.
        - `limit`: run at most this many rows.
        - `missing`: how missing values of a DataFrame are sent: `"null"`, or `"error"`, which fails the row.
        - `chunk_size`: rows per request.
        - `max_in_flight`: requests in flight at a time.
        - `max_concurrency`: rows of one request that the server runs at a time.
        - `ordered`: yield outcomes in the order of the rows.
        - `max_errors`: stop when more rows than this have failed: a count (20) or a share ("5%").
        - `min_confidence`: mark rows as `doubtful` whose program is less certain than this (0 to 1).
        - `timeout_ms`: time limit for a row's program, in milliseconds.
        - `version`: version of the program; by default the active one.
        - `force_validation`: have the server validate every result.
        - `journal`: path of a file that records finished rows. A later call with the same journal skips them.
        - `mode`: `"resume"` skips all finished rows, `"retry_failed"` runs those that failed again.
        - `format`, `delimiter`, `quotechar`, `escapechar`, `encoding`, `skip_lines`, `comment`, `no_header`, `sheet`,
          `types`: how a file is read, if that cannot be detected.
        - `stop`: call it to end the run early.

        A failed row does not raise. Raises `LoopaiException` if the server cannot be reached or rejects the run, and
        `ConfigurationError` for invalid options, a key that occurs twice in a file, or a journal of another run.
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
        nested: bool = False,
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
        """Run any number of rows, write them to `output` or `sink`, and return the summary.

        - `output`: a JSONL, CSV, Parquet or Excel file: a path, or a file opened in binary mode.
        - `mode`: what to do if the output exists: `"new"` raises, `"resume"` skips all finished rows, `"retry_failed"`
          runs those that failed again, `"overwrite"` starts again, and `"continue"` is `"resume"` for scheduled jobs:
          it starts silently if there is nothing to resume.
        - `journal`: path of the file that records finished rows; by default beside the output.
        - `expect`: column with the right answers, which is not sent. The summary then has accuracy and a confusion
          matrix.
        - `output_format`: format of the output, if its name does not say it.
        - `nested`: leave out the columns for the members of the task's output, which CSV and Excel have.
        - `sink`: object that outcomes are written to, instead of `output`.
        - `watchers`: objects that are called while the run is in progress.

        `task_id`, `rows`, `key`, `mapping`, `limit`, `missing`, `version`, `force_validation`, `allow_duplicates`,
        `chunk_size`, `max_in_flight`, `max_concurrency`, `max_errors`, `min_confidence`, `timeout_ms`, `ordered`,
        `stop`, and what says how a file is read (`format`, `delimiter`, `quotechar`, `escapechar`, `encoding`,
        `skip_lines`, `comment`, `no_header`, `sheet`, `types`) are as in `batch_stream`.

        Raises `ConfigurationError` before a row is sent, `OutputError` if the output cannot be written, and
        `LoopaiException` if the server cannot be reached or rejects the run. After any of them, call again with
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
                nested=nested,
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
        """Return whether the server runs, with its version and environment."""
        return await self._run(operations.get_health(), options)

    async def get_detailed_health(self, **options: Unpack[RequestOptions]) -> models.DetailedHealthResponse:
        """Return health by component. The reply of a degraded server (503) is a result, not an error."""
        return await self._run(operations.get_detailed_health(), options)

    async def get_ready(self, **options: Unpack[RequestOptions]) -> models.ReadyResponse:
        """Return whether the server accepts work. `not_ready` (503) is a result, not an error."""
        return await self._run(operations.get_ready(), options)

    async def get_live(self, **options: Unpack[RequestOptions]) -> models.LiveResponse:
        """Return whether the server's process answers."""
        return await self._run(operations.get_live(), options)

    async def get_plain_health(self, **options: Unpack[RequestOptions]) -> models.HealthResponse:
        """Call `GET /health`, the plain check of load balancers, and return a `HealthResponse`."""
        return await self._run(operations.get_plain_health(), options)

    async def get_metrics(self, **options: Unpack[RequestOptions]) -> models.ReplyText:
        """Return the server's metrics in Prometheus' text format."""
        return await self._run(operations.get_metrics(), options)

    # Validation, comparison, canaries

    async def get_validation_summary(
        self, program_id: Id, **options: Unpack[RequestOptions]
    ) -> models.ValidationSummary:
        """Return a program's validation statistics; zeros for an unknown program."""
        return await self._run(operations.get_validation_summary(id_of(program_id, "program_id")), options)

    async def get_recommendations(
        self, program_id: Id, **options: Unpack[RequestOptions]
    ) -> models.ImprovementRecommendation:
        """Return whether a program should be improved, and why."""
        return await self._run(operations.get_recommendations(id_of(program_id, "program_id")), options)

    async def improve_program(self, program_id: Id, **options: Unpack[RequestOptions]) -> models.ImprovementResult:
        """Make a draft from the program's failures. Raises `ValidationException` if none is needed."""
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
        """Deploy a program to 5 percent of executions. Raises `ValidationException` if a canary is in progress."""
        return await self._run(
            operations.start_canary(self._task(task_id), id_of(new_program_id, "new_program_id")), options
        )

    async def progress_canary(self, canary_id: Id, **options: Unpack[RequestOptions]) -> models.CanaryDeployment:
        """Move a canary to its next stage. The server may pause it or roll it back: check `status`."""
        return await self._run(operations.progress_canary(id_of(canary_id, "canary_id")), options)

    async def rollback_canary(
        self, canary_id: Id, reason: str, **options: Unpack[RequestOptions]
    ) -> models.CanaryDeployment:
        """Roll a canary back, in any state. `reason` has at most 500 characters."""
        return await self._run(operations.rollback_canary(id_of(canary_id, "canary_id"), reason), options)

    async def get_canary(self, task_id: Id, **options: Unpack[RequestOptions]) -> Optional[models.CanaryDeployment]:
        """Return the task's canary in progress; `None` if there is none."""
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
        """Subscribe `url` to events, which are signed with `secret`.

        `max_retries` is the total number of attempts per delivery, `timeout_seconds` the time limit of each.

        Raises `ValidationException` for an unknown event type or an invalid address.
        """
        operation = operations.subscribe_webhook(url, event_types, secret, max_retries, timeout_seconds, headers)
        del secret, headers  # tracebacks that show variables would show this frame's
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
        """Return the task's recorded executions with their inputs, newest first, at most `limit` (1 to 1,000).

        `status` is `"success"` or `"error"`, None for both. If there are more, pass the reply's header `x-next-cursor`
        as `before` for the next page. Embedded server only; elsewhere raises `NotSupportedException`.
        """
        return await self._run(operations.list_executions(self._task(task_id), limit, before, status), options)

    async def export_executions(
        self, task_id: Id, status: Optional[str] = None, **options: Unpack[RequestOptions]
    ) -> models.ReplyText:
        """Return all recorded executions of the task as JSON lines, newest first, at most `max_reply_bytes`.

        Embedded server only; elsewhere raises `NotSupportedException`.
        """
        return await self._run(operations.export_executions(self._task(task_id), status), options)

    async def delete_executions(
        self, older_than_days: int, **options: Unpack[RequestOptions]
    ) -> models.DeletedExecutions:
        """Delete recorded executions of all tasks that are older than this many days (0: all); return their number.

        Embedded server only; elsewhere raises `NotSupportedException`.
        """
        return await self._run(operations.delete_executions(older_than_days), options)

    async def list_webhooks(self, **options: Unpack[RequestOptions]) -> models.ReplyList[models.WebhookSubscription]:
        """Return all subscriptions, in no order. The server returns their secrets in plain text."""
        return await self._run(operations.list_webhooks(), options)

    async def get_webhook_history(
        self, subscription_id: Id, limit: int = 100, **options: Unpack[RequestOptions]
    ) -> models.ReplyList[models.WebhookDelivery]:
        """Return the latest delivery attempts, newest first; an empty list for an unknown subscription."""
        return await self._run(
            operations.get_webhook_history(id_of(subscription_id, "subscription_id"), limit), options
        )


class SyncBoundTask(TypedTask[In, Out]):
    """A task bound by `SyncLoopaiClient.bind`: call it with an input and get an output."""

    def __init__(
        self, client: SyncLoopaiClient, task_id: str, given: TypeForm[In], made: TypeForm[Out], name: str
    ) -> None:
        super().__init__(task_id, given, made, name)
        self._client = client

    @property
    def function(self) -> Callable[..., Out]:
        """The task as a plain function, for code that accepts nothing else."""

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

        Raises `ValidationException` for an input that is not of the bound type, `ExecutionException` if the program
        fails or its output is not of the bound type, and whatever `execute` raises.
        """
        sent = self._input(value)
        result = self._client.execute(self.task_id, sent, version, timeout_ms, raise_on_error=True, **options)
        return self._output(result)


class SyncLoopaiClient(PreparedClient):
    """The synchronous client: `with SyncLoopaiClient(...) as client: client.execute(...)`.

    Parameters. Each except `http_client` and `hooks` can also be set as an environment variable (`LOOPAI_BASE_URL`, …);
    the argument takes precedence:

    - `base_url`: address of the server, by default `http://localhost:8080`.
    - `api_key`: bearer token, or a function that returns one and is called before each attempt.
    - `timeout`: time limit for one attempt, in seconds (30); None for no limit.
    - `max_retries`: retries after the first attempt (3); None for no limit.
    - `deadline`: time limit for a whole call with its retries and pauses, in seconds; None (default) for no limit.
    - `max_connections`: most connections, and therefore most requests in flight, of a process (100).
    - `max_reply_bytes`: largest reply, in decoded bytes (64,000,000); None for no limit.
    - `transport`: `"httpx"`, `"httpx2"`, `"pyreqwest"`, or a transport object.
    - `coalesce`: send `execute` calls made at the same moment as one batch request.
    - `tasks`: names for task ids.
    - `http_client`: your own `httpx.Client`; you close it yourself. Its `base_url` is used unless you pass one.
    - `validate_inputs`: whether to check inputs against their task's input schema before they are sent; needs
      `jsonschema-rs`. An input that does not fit is not sent: a `ValidationException`, or the error of its item or row.
    - `raise_on_error`: whether `execute` raises if the program fails (True).
    - `retry_unknown`: whether `execute` and batches are retried if the request may already have arrived (True).
    - `retry_waits`: whether to pause between attempts (True); turn it off in tests.
    - `rate_limit`: most requests to send, such as `"30/minute"`.
    - `verify`: TLS verification: True, False, `"system"`, the path of a CA file, or an `ssl.SSLContext`.
    - `cert`: client certificate: a path, or `(certificate, key[, password])`.
    - `proxy`: address of a proxy; takes precedence over the environment's.
    - `trust_env`: whether to use the environment's proxies (True).
    - `headers`: headers sent with every request.
    - `webhook_secrets`: secrets that webhook deliveries are signed with, newest first.
    - `webhook_tolerance`: greatest age of a webhook event, in seconds (3,600); None for any.
    - `telemetry`: record OpenTelemetry spans and metrics.
    - `local`: run on an embedded server in this process: True, or its data folder.
    - `llm_model`: language model that writes programs for an embedded server; examples are sent to it. Its options are
      `llm_base_url` and `llm_api_key` (endpoint and key), `llm_examples` (most examples sent), `llm_redact` (a function
      that changes each example before it is sent), `llm_max_tokens`, `llm_seconds` and `llm_max_cost` (limits for one
      generation), `llm_prices` (dollars per million tokens, input and output), `llm_unverified` (status of a program
      that no examples could check: `"active"` or `"draft"`).
    - `hooks`: objects called on every call, attempt and retry.

    Use one client for any number of tasks, threads and forked children.

    Raises `ConfigurationError` for invalid options. Calls raise subclasses of `LoopaiException`.
    """

    _performer = ThreadPerformer()

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
        validate_inputs: Maybe[bool] = NOT_GIVEN,
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
                "validate_inputs": validate_inputs,
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
        # Tracebacks that show variables would show the key of this frame.
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
        """The transport that sends requests. This client closes it, unless you passed it."""
        return self._transport

    @classmethod
    def local(cls, path: Union[str, PathLike[str], None] = None, **options: Unpack[ClientOptions]) -> Self:
        """Return a client on an embedded server in this process: the same calls, and no server to start.

        `path` is the folder for its data; several processes may share one. Without it the data lives as long as the
        process. `options` are those of the class. Raises `ConfigurationError` if the server's libraries are not
        installed.
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
        return self._drive(self._flow(operation, options))

    def _drive(self, flow: Steps[T]) -> T:
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
        *,
        wait: bool = False,
        on_progress: Optional[ON_PROGRESS] = None,
        **options: Unpack[RequestOptions],
    ) -> models.Task:
        """Create a task. A schema is a JSON schema or a pydantic model class. Examples are
        `{"input": …, "output": …}`; an input without an output is a known input. Parameters that are `None` take the
        server's default.

        The embedded server begins to make the program at once. With `wait=True`, the call returns when the program is
        made or could not be: the task's `generation` has the score or the reason, `warnings` and `questions` what is
        in doubt. Meanwhile `on_progress` is called with `generation`. The client's `deadline` bounds the wait. The
        published server makes programs at the first execution: there, `wait=True` raises `NotSupportedException` and
        creates no task.

        Raises `ValidationException` (`.errors` by field), `ConflictException` if the name is taken, and
        `TimeoutException` after the deadline (the task then exists).
        """
        operation = operations.create_task(
            name,
            description,
            input_schema,
            output_schema,
            examples,
            accuracy_target,
            latency_target_ms,
            sampling_rate,
        )
        if wait:
            return self._drive(self._waiting(operation, options, on_progress, ask_first=True))
        return self._run(operation, options)

    def get_task(self, task_id: Id, **options: Unpack[RequestOptions]) -> models.Task:
        """Return the task. Raises `NotFoundException`."""
        return self._run(operations.get_task(self._task(task_id)), options)

    def list_tasks(self, **options: Unpack[RequestOptions]) -> models.ReplyList[models.Task]:
        """Return all tasks, oldest first. Embedded server only; elsewhere raises `NotSupportedException`."""
        return self._run(operations.list_tasks(), options)

    def get_task_by_name(self, name: str, **options: Unpack[RequestOptions]) -> models.Task:
        """Return the task of that name. Embedded server only; elsewhere raises `NotSupportedException`."""
        return self._run(operations.get_task_by_name(name), options)

    def list_artifacts(
        self, task_id: Id, **options: Unpack[RequestOptions]
    ) -> models.ReplyList[models.ProgramArtifact]:
        """Return the task's programs by ascending version; an empty list for an unknown task."""
        return self._run(operations.list_artifacts(self._task(task_id)), options)

    def get_artifact(self, task_id: Id, version: int, **options: Unpack[RequestOptions]) -> models.ProgramArtifact:
        """Return one version of the task's program. Raises `NotFoundException`."""
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
        """Add your own program as the task's next version. It becomes the active one unless `activate=False`.

        Embedded server only; elsewhere raises `NotSupportedException`. Raises `ValidationException` for
        code that does not load or defines no `main`.
        """
        return self._run(operations.push_program(self._task(task_id), code, language, activate), options)

    def activate(self, task_id: Id, version: int, **options: Unpack[RequestOptions]) -> models.ProgramArtifact:
        """Activate a version. Later active versions are retired. Raises `NotFoundException`.

        Embedded server only; elsewhere raises `NotSupportedException`.
        """
        return self._run(operations.activate(self._task(task_id), version), options)

    def retire(self, task_id: Id, version: int, **options: Unpack[RequestOptions]) -> models.ProgramArtifact:
        """Retire a version. The highest remaining active version runs instead. Raises `NotFoundException`.

        Embedded server only; elsewhere raises `NotSupportedException`.
        """
        return self._run(operations.retire(self._task(task_id), version), options)

    def add_examples(self, task_id: Id, examples: Iterable[Any], **options: Unpack[RequestOptions]) -> models.Task:
        """Add examples (`{"input": …, "output": …}`) to a task. One with the same input replaces the earlier one.

        Existing programs do not change; call `generate` to make the next version. Raises `NotFoundException`. Embedded
        server only; elsewhere raises `NotSupportedException`.
        """
        return self._run(operations.add_examples(self._task(task_id), examples), options)

    @overload
    def generate(
        self,
        task_id: Id,
        *,
        wait: Literal[True] = True,
        on_progress: Optional[ON_PROGRESS] = None,
        **options: Unpack[RequestOptions],
    ) -> models.ProgramArtifact: ...

    @overload
    def generate(
        self, task_id: Id, *, wait: Literal[False], on_progress: None = None, **options: Unpack[RequestOptions]
    ) -> models.Task: ...

    def generate(
        self,
        task_id: Id,
        *,
        wait: bool = True,
        on_progress: Optional[ON_PROGRESS] = None,
        **options: Unpack[RequestOptions],
    ) -> Union[models.ProgramArtifact, models.Task]:
        """Make the next version of a task's program from its examples, and return it.

        Its `status` is `active` if it is the first, or better than the active version on today's examples; otherwise
        `draft`, and `notes` say why. A language model gets the active version and its mistakes. Waits until
        the program is made: up to 300 seconds longer than `timeout`, or, with `on_progress`, which is called with the
        task's `generation`, as long as the client's `deadline` allows. With `wait=False`, returns the task at once;
        `generation` of `get_task` then shows its state.

        Raises `ExecutionException`, with the reason, if no program can be made. Embedded server only; elsewhere
        raises `NotSupportedException`.
        """
        task = self._task(task_id)
        if not wait:
            return self._run(operations.start_generating(task), options)
        if on_progress is not None:
            return self._drive(self._generating(task, options, on_progress))
        return self._run(operations.generate(task), options)

    def delete_task(self, task_id: Id, **options: Unpack[RequestOptions]) -> None:
        """Delete a task with its examples, programs and executions. Raises `NotFoundException`.

        Embedded server only; elsewhere raises `NotSupportedException`.
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
        """Run the task's active program, or version `version`, on one input (any JSON value or a pydantic model).

        `timeout_ms` is the program's time limit, in milliseconds (the server's default is 5000). Raises
        `ExecutionException`, which has the result, if the program fails; `raise_on_error=False` returns that result
        instead.

        With `coalesce=True`, calls made at the same moment are sent as one batch request and wait for its slowest item.
        Then `program_id` and `executed_at` are `None`, and a rejected input raises `ExecutionException`.
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
        """Run many inputs in one request. Results have the order of the inputs and the ids "0", "1", ….

        `inputs` is any iterable, or a DataFrame or Series, whose missing values (NaN, `pd.NA`, NaT) are sent as null,
        or rejected with `missing="error"`. `max_concurrency` is how many items the server runs at a time, 1–100. Items
        that fail do not raise: check `success` of each result. Raises `ValidationException` for a string or mapping.
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
        """Run items with your own ids. Pass one request or its parts; items are models, dicts or a DataFrame.

        `missing` says how missing values of a DataFrame are sent, as in `batch_execute`. `timeout_ms` is the time limit
        of each item, in milliseconds. Items that fail do not raise. Raises `ValidationException`, which names item and
        field, for an item that cannot be sent.
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

        `items` are models, dicts, or a DataFrame; `missing` is as in `batch_execute`.
        """
        return self._run(operations.batch_validate(self._task(task_id), items, missing), options)

    def bind(self, task_id: Id, *, input: TypeForm[In], output: TypeForm[Out]) -> SyncBoundTask[In, Out]:  # noqa: A002  # fixed name
        """Return the task as a typed callable. The types may be pydantic models, `Literal[…]`, unions and others."""
        return SyncBoundTask(self, self._task(task_id), input, output, self._name_of(task_id))

    def load_program(
        self, task_id: Id, version: Optional[int] = None, *, refresh_interval: Optional[float] = 60.0
    ) -> SyncEdgeProgram:
        """Load the task's active program, or version `version`, to run it in this process: `program(input)`.

        `program.map(inputs)` runs many. Unless `version` is given, it checks for a newer version every
        `refresh_interval` seconds (`None`: never). Raises `NotSupportedException` for a program that is neither Python
        nor TypeScript, and `ConfigurationError` if the sandbox for its language is not installed.
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
        """Run any number of rows and yield each row's outcome when it finishes: `ok`, `doubtful`, `error`, `cancelled`.

        `rows` is any iterable (with `LoopaiClient` also an asynchronous one), the path of a CSV, JSON, JSONL, Parquet
        or Excel file, which may be compressed, or such a file opened in binary mode. A DataFrame (pandas, polars and
        others) or Series is read row by row. Rows are read only as fast as they are sent.

        - `task_id`: the task's id or name.
        - `key`: name of each row: a column, dotted for nested values, or a function of the row. Without it, rows are
          numbered from 1.
        - `mapping`: how the program's input is made of a row, such as `["text=body"]`. Default: the row.
        - `allow_duplicates`: allow rows to share a key.
        - `limit`: run at most this many rows.
        - `missing`: how missing values of a DataFrame are sent: `"null"`, or `"error"`, which fails the row.
        - `chunk_size`: rows per request.
        - `max_in_flight`: requests in flight at a time.
        - `max_concurrency`: rows of one request that the server runs at a time.
        - `ordered`: yield outcomes in the order of the rows.
        - `max_errors`: stop when more rows than this have failed: a count (20) or a share ("5%").
        - `min_confidence`: mark rows as `doubtful` whose program is less certain than this (0 to 1).
        - `timeout_ms`: time limit for a row's program, in milliseconds.
        - `version`: version of the program; by default the active one.
        - `force_validation`: have the server validate every result.
        - `journal`: path of a file that records finished rows. A later call with the same journal skips them.
        - `mode`: `"resume"` skips all finished rows, `"retry_failed"` runs those that failed again.
        - `format`, `delimiter`, `quotechar`, `escapechar`, `encoding`, `skip_lines`, `comment`, `no_header`, `sheet`,
          `types`: how a file is read, if that cannot be detected.
        - `stop`: call it to end the run early.

        A failed row does not raise. Raises `LoopaiException` if the server cannot be reached or rejects the run, and
        `ConfigurationError` for invalid options, a key that occurs twice in a file, or a journal of another run.
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
        nested: bool = False,
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
        """Run any number of rows, write them to `output` or `sink`, and return the summary.

        - `output`: a JSONL, CSV, Parquet or Excel file: a path, or a file opened in binary mode.
        - `mode`: what to do if the output exists: `"new"` raises, `"resume"` skips all finished rows, `"retry_failed"`
          runs those that failed again, `"overwrite"` starts again, and `"continue"` is `"resume"` for scheduled jobs:
          it starts silently if there is nothing to resume.
        - `journal`: path of the file that records finished rows; by default beside the output.
        - `expect`: column with the right answers, which is not sent. The summary then has accuracy and a confusion
          matrix.
        - `output_format`: format of the output, if its name does not say it.
        - `nested`: leave out the columns for the members of the task's output, which CSV and Excel have.
        - `sink`: object that outcomes are written to, instead of `output`.
        - `watchers`: objects that are called while the run is in progress.

        `task_id`, `rows`, `key`, `mapping`, `limit`, `missing`, `version`, `force_validation`, `allow_duplicates`,
        `chunk_size`, `max_in_flight`, `max_concurrency`, `max_errors`, `min_confidence`, `timeout_ms`, `ordered`,
        `stop`, and what says how a file is read (`format`, `delimiter`, `quotechar`, `escapechar`, `encoding`,
        `skip_lines`, `comment`, `no_header`, `sheet`, `types`) are as in `batch_stream`.

        Raises `ConfigurationError` before a row is sent, `OutputError` if the output cannot be written, and
        `LoopaiException` if the server cannot be reached or rejects the run. After any of them, call again with
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
                nested=nested,
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
        """Return whether the server runs, with its version and environment."""
        return self._run(operations.get_health(), options)

    def get_detailed_health(self, **options: Unpack[RequestOptions]) -> models.DetailedHealthResponse:
        """Return health by component. The reply of a degraded server (503) is a result, not an error."""
        return self._run(operations.get_detailed_health(), options)

    def get_ready(self, **options: Unpack[RequestOptions]) -> models.ReadyResponse:
        """Return whether the server accepts work. `not_ready` (503) is a result, not an error."""
        return self._run(operations.get_ready(), options)

    def get_live(self, **options: Unpack[RequestOptions]) -> models.LiveResponse:
        """Return whether the server's process answers."""
        return self._run(operations.get_live(), options)

    def get_plain_health(self, **options: Unpack[RequestOptions]) -> models.HealthResponse:
        """Call `GET /health`, the plain check of load balancers, and return a `HealthResponse`."""
        return self._run(operations.get_plain_health(), options)

    def get_metrics(self, **options: Unpack[RequestOptions]) -> models.ReplyText:
        """Return the server's metrics in Prometheus' text format."""
        return self._run(operations.get_metrics(), options)

    # Validation, comparison, canaries

    def get_validation_summary(self, program_id: Id, **options: Unpack[RequestOptions]) -> models.ValidationSummary:
        """Return a program's validation statistics; zeros for an unknown program."""
        return self._run(operations.get_validation_summary(id_of(program_id, "program_id")), options)

    def get_recommendations(
        self, program_id: Id, **options: Unpack[RequestOptions]
    ) -> models.ImprovementRecommendation:
        """Return whether a program should be improved, and why."""
        return self._run(operations.get_recommendations(id_of(program_id, "program_id")), options)

    def improve_program(self, program_id: Id, **options: Unpack[RequestOptions]) -> models.ImprovementResult:
        """Make a draft from the program's failures. Raises `ValidationException` if none is needed."""
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
        """Deploy a program to 5 percent of executions. Raises `ValidationException` if a canary is in progress."""
        return self._run(operations.start_canary(self._task(task_id), id_of(new_program_id, "new_program_id")), options)

    def progress_canary(self, canary_id: Id, **options: Unpack[RequestOptions]) -> models.CanaryDeployment:
        """Move a canary to its next stage. The server may pause it or roll it back: check `status`."""
        return self._run(operations.progress_canary(id_of(canary_id, "canary_id")), options)

    def rollback_canary(self, canary_id: Id, reason: str, **options: Unpack[RequestOptions]) -> models.CanaryDeployment:
        """Roll a canary back, in any state. `reason` has at most 500 characters."""
        return self._run(operations.rollback_canary(id_of(canary_id, "canary_id"), reason), options)

    def get_canary(self, task_id: Id, **options: Unpack[RequestOptions]) -> Optional[models.CanaryDeployment]:
        """Return the task's canary in progress; `None` if there is none."""
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
        """Subscribe `url` to events, which are signed with `secret`.

        `max_retries` is the total number of attempts per delivery, `timeout_seconds` the time limit of each.

        Raises `ValidationException` for an unknown event type or an invalid address.
        """
        operation = operations.subscribe_webhook(url, event_types, secret, max_retries, timeout_seconds, headers)
        del secret, headers  # tracebacks that show variables would show this frame's
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
        """Return the task's recorded executions with their inputs, newest first, at most `limit` (1 to 1,000).

        `status` is `"success"` or `"error"`, None for both. If there are more, pass the reply's header `x-next-cursor`
        as `before` for the next page. Embedded server only; elsewhere raises `NotSupportedException`.
        """
        return self._run(operations.list_executions(self._task(task_id), limit, before, status), options)

    def export_executions(
        self, task_id: Id, status: Optional[str] = None, **options: Unpack[RequestOptions]
    ) -> models.ReplyText:
        """Return all recorded executions of the task as JSON lines, newest first, at most `max_reply_bytes`.

        Embedded server only; elsewhere raises `NotSupportedException`.
        """
        return self._run(operations.export_executions(self._task(task_id), status), options)

    def delete_executions(self, older_than_days: int, **options: Unpack[RequestOptions]) -> models.DeletedExecutions:
        """Delete recorded executions of all tasks that are older than this many days (0: all); return their number.

        Embedded server only; elsewhere raises `NotSupportedException`.
        """
        return self._run(operations.delete_executions(older_than_days), options)

    def list_webhooks(self, **options: Unpack[RequestOptions]) -> models.ReplyList[models.WebhookSubscription]:
        """Return all subscriptions, in no order. The server returns their secrets in plain text."""
        return self._run(operations.list_webhooks(), options)

    def get_webhook_history(
        self, subscription_id: Id, limit: int = 100, **options: Unpack[RequestOptions]
    ) -> models.ReplyList[models.WebhookDelivery]:
        """Return the latest delivery attempts, newest first; an empty list for an unknown subscription."""
        return self._run(operations.get_webhook_history(id_of(subscription_id, "subscription_id"), limit), options)


def _at_once(given: Any) -> Any:
    """Return the value. Raises `ConfigurationError` if it must be awaited."""
    if inspect.isawaitable(given):
        if inspect.iscoroutine(given):
            given.close()
        raise ConfigurationError(
            "SyncLoopaiClient cannot await a coroutine: pass an api_key and hooks that are plain functions, or use "
            "LoopaiClient"
        )
    return given
