"""What both clients share before anything is sent: options, task names, checked batches, the flow of a call."""

from __future__ import annotations

import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Callable, Optional, TypeVar, Union
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import ValidationError
from typing_extensions import Self, Unpack

from . import models
from ._core import operations
from ._core.checking import Check, InputSchemas, checked
from ._core.first_executions import FirstExecutions, FirstTurn, one_first
from ._core.flow import Performer, Policy, Steps, call
from ._core.hooks import CallInfo, Hooks, observed, tell_all
from ._core.limits import MOST_CONCURRENCY
from ._core.missing import LookUps, explained
from ._core.names import Name, Names, by_name, is_named, look_up
from ._core.operations import Operation
from ._core.paces import Pace, pace_of
from ._core.resending import whole
from ._core.rowsets import Missing
from ._core.unrun import ItemConcurrency
from ._core.waiting import ON_PROGRESS, until_made, version_made
from ._core.wire import Headers, Request
from ._version import __version__
from .config import NOT_GIVEN, Arguments, Config, Maybe, NotGiven, resolve
from .exceptions import ConfigurationError, ServerException, ValidationException
from .options import CallOptions, RequestOptions

logger = logging.getLogger("loopai")

T = TypeVar("T")
Id = Union[str, UUID]

_OF_CONNECTIONS = frozenset(
    {"base_url", "transport", "max_connections", "verify", "cert", "proxy", "trust_env", "local", "telemetry"}
)


def _hooks(given: Any) -> tuple[Hooks, ...]:
    hooks = tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(callable(getattr(each, "call_started", None)) and not isinstance(each, type) for each in hooks):
        raise ConfigurationError("hooks must be a list of objects of classes that derive from loopai.Hooks")
    return hooks


class PreparedClient(ABC):
    """The base class of both clients: everything that needs no I/O."""

    _performer: Performer

    def __init__(self, arguments: Arguments, hooks: Sequence[Hooks], brought: Any) -> None:
        if brought is not None:
            given = [name for name in ("transport", "local") if arguments.get(name, NOT_GIVEN) is not NOT_GIVEN]
            if [name for name in given if name != "local" or arguments["local"]]:
                raise ConfigurationError(f"http_client and {given[0]} exclude each other")
            # An http_client decides which server is called, whatever the environment says.
            arguments = Arguments({**arguments, "local": False})
            address = str(getattr(brought, "base_url", ""))
            if address and arguments.get("base_url", NOT_GIVEN) is NOT_GIVEN:
                arguments["base_url"] = address
        config = resolve(arguments)
        self._hooks: tuple[Hooks, ...] = _hooks(hooks)
        if config.telemetry:
            from .telemetry import OpenTelemetryHooks

            self._hooks += (OpenTelemetryHooks(),)
        self._owns_transport = brought is None and isinstance(config.transport, str)
        self._closed = False
        self._original: Optional[PreparedClient] = None
        self._names = Names()
        self._items = ItemConcurrency(config.base_url)
        self._look_ups = LookUps()
        self._schemas = InputSchemas(_made_ready)
        self._firsts = FirstExecutions(needed=not getattr(config.transport, "has_programs", False))
        if self._owns_transport and not config.local:
            _warn_once(config)
        self._configure(config)

    def _configure(self, config: Config) -> None:
        if config.validate_inputs:
            _input_check()
        self._config = config
        headers = {
            "accept": "application/json",
            "accept-encoding": "gzip, deflate",
            "user-agent": f"loopai-python/{__version__}",
        }
        if isinstance(config.api_key, str):
            headers["authorization"] = f"Bearer {config.api_key}"
        headers.update({name.lower(): text for name, text in config.headers.items()})
        self._policy = Policy(
            config.base_url,
            Headers(headers),
            config.timeout,
            config.deadline,
            config.max_retries,
            config.retry_unknown,
            config.retry_waits,
            config.api_key if isinstance(config.api_key, str) else None,
            config.max_reply_bytes,
            None if isinstance(config.api_key, str) else config.api_key,
            _pace(config),
            bool(self._hooks),
        )

    @property
    def base_url(self) -> str:
        """The address of the server, without a trailing slash."""
        return self._config.base_url

    @property
    def api_key(self) -> Optional[str]:
        """The bearer token; `None` if there is none, or if a function returns it for each attempt."""
        return self._config.api_key if isinstance(self._config.api_key, str) else None

    @property
    def timeout(self) -> Optional[float]:
        """The time limit of one attempt, in seconds; `None` for no limit."""
        return self._config.timeout

    @property
    def max_retries(self) -> Optional[int]:
        """Retries after the first attempt; `None` for no limit."""
        return self._config.max_retries

    @property
    def config(self) -> Config:
        """All options; `config.sources` says where each comes from."""
        return self._config

    @property
    def hooks(self) -> tuple[Hooks, ...]:
        """The objects called on every call and attempt, including those of `telemetry`."""
        return self._hooks

    def __repr__(self) -> str:
        if not hasattr(self, "_config"):
            return f"<{type(self).__name__} not configured>"
        key = "set" if self._config.api_key else "none"
        return f"{type(self).__name__}({self.base_url!r}, api_key={key}, timeout={self.timeout})"

    def __getstate__(self) -> None:
        raise TypeError(f"{type(self).__name__} holds connections and cannot be pickled: make one in each process")

    def with_options(self, **options: Unpack[CallOptions]) -> Self:
        """Return a copy with other options on the same connections (`timeout=5`, `deadline=2`, `max_retries=0`, …).

        `headers` are merged with those of this client; names are case-insensitive.

        Closing the copy does not close the connections. Raises `ConfigurationError` for an unknown option, and for
        options of the connections (`base_url`, `transport`, …).
        """
        fixed = sorted(_OF_CONNECTIONS & options.keys())
        if fixed:
            raise ConfigurationError(f"{fixed[0]} cannot be changed here: create a new client")
        more = options.get("headers")
        if isinstance(more, Mapping):
            options["headers"] = _merged(self._config.headers, more)
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy._owns_transport = False
        copy._original = self
        copy._configure(self._config.changed(**options))
        copy._gather()
        return copy

    def _hear(self, hooks: tuple[Hooks, ...]) -> None:
        self._hooks = hooks

    @abstractmethod
    def _run(self, operation: Operation[Any]) -> Any:
        """Perform one call."""

    @abstractmethod
    def _gather(self) -> None:
        """Collect calls with this client's options, not with those of the client that it was copied from."""

    def _is_closed(self) -> bool:
        return self._closed or (self._original is not None and self._original._is_closed())

    def _flow(self, operation: Operation[T], options: Optional[RequestOptions] = None) -> Steps[T]:
        if self._is_closed():
            raise RuntimeError(f"this {type(self).__name__} is closed: make a new one")
        if options:
            return self._with(options)._flow(operation)
        if type(operation.task_id) is str or not is_named(operation):
            return self._steps(operation)
        return by_name(operation, self._names, self._steps, self._look_up)

    def _waiting(
        self,
        operation: Operation[models.Task],
        options: RequestOptions,
        on_progress: Optional[ON_PROGRESS],
        *,
        ask_first: bool = False,
    ) -> Steps[models.Task]:
        """Start making a program, and wait for it; with `ask_first` only if the server supports that."""

        def begin(left: Optional[float]) -> Steps[models.Task]:
            if ask_first:
                yield from self._within(left)._flow(operations.can_wait(), looking)
            return (yield from self._within(left)._flow(operation, options))

        def look(task_id: str, left: Optional[float]) -> Steps[models.Task]:
            return self._within(left)._flow(operations.get_task(task_id), looking)

        looking = options.copy()
        looking.pop("idempotency_key", None)
        return until_made(begin, look, self._policy.deadline, self._policy.clock, on_progress)

    def _generating(
        self, task: str, options: RequestOptions, on_progress: ON_PROGRESS
    ) -> Steps[models.ProgramArtifact]:
        """Begin to make the next version, wait until it is made, and get it."""
        made = yield from self._waiting(operations.start_generating(task), options, on_progress)
        return (yield from self._flow(operations.get_artifact(str(made.id), version_made(made))))

    def _within(self, left: Optional[float]) -> Self:
        """A copy with this many seconds for a call; this client if there is no deadline."""
        return self if left is None else self.with_options(deadline=left)

    def _with(self, options: RequestOptions) -> Self:
        """Return a copy with options for one call. Raises `ConfigurationError`."""
        unknown = sorted(options.keys() - RequestOptions.__annotations__.keys())
        if unknown:
            raise ConfigurationError(
                f"no option {unknown[0]!r} of a call: there are {', '.join(RequestOptions.__annotations__)}; "
                "others are those of with_options"
            )
        changed: dict[str, Any] = {"timeout": options["timeout"]} if "timeout" in options else {}
        if "extra_headers" in options:
            changed["headers"] = options["extra_headers"]
        copy = self.with_options(**changed)
        key = options.get("idempotency_key")
        if key is not None:
            if not isinstance(key, str) or not key.strip() or not key.isascii() or not key.isprintable():
                raise ConfigurationError("idempotency_key must be printable ASCII text that is not empty")
            copy._policy = replace(copy._policy, new_key=lambda: key)
        return copy

    def _steps(self, operation: Operation[T]) -> Steps[T]:
        if self._config.validate_inputs and operation.pure:
            return self._checked(operation)
        return self._executed(operation)

    def _checked(self, operation: Operation[T]) -> Steps[T]:
        """The steps of an execution: fetch its task's schema if it is unknown, then send the inputs that fit."""
        policy, began = self._policy, self._policy.clock()

        def fetch(task: Operation[models.Task]) -> Steps[models.Task]:
            return self._looked_up(task, replace(policy, max_retries=0), began)

        check = yield from self._schemas.check_of(str(operation.task_id), policy, fetch, self._performer)

        def send(fitting: Operation[T]) -> Steps[T]:
            return self._executed(fitting, began)

        if check is None:
            return (yield from send(operation))
        return (yield from checked(operation, check, self._performer, send))

    def _executed(self, operation: Operation[T], began: Optional[float] = None) -> Steps[T]:
        """The steps of a call; an execution waits for the first of its task, or is the first."""
        if self._firsts.may_be(operation):
            return one_first(operation, self._policy, began, self._firsts, self._sent, self._looked_up, self._performer)
        return self._sent(operation, began)

    def _sent(
        self, operation: Operation[T], began: Optional[float] = None, turn: Optional[FirstTurn] = None
    ) -> Steps[T]:
        if operation.parts is None:
            flow = call(operation, self._policy, began)
        else:
            flow = whole(operation, operation.parts, self._policy, self._items, began, turn)
        flow = explained(flow, operation, self._policy, self._look_ups, began)
        return observed(flow, operation, self._hooks) if self._hooks else flow

    def _looked_up(self, operation: Operation[T], policy: Policy, began: float) -> Steps[T]:
        flow = call(operation, policy, began)
        return observed(flow, operation, self._hooks) if self._hooks else flow

    def _look_up(self, name: str) -> Steps[str]:
        return look_up(name, self.base_url, list(self._config.tasks), self._steps)

    def _task(self, task_id: Id) -> str:
        """Return the task's id if it is known, otherwise a `Name`, which the first request looks up."""
        known = getattr(self._config.transport, "tasks", None)
        named = self._config.tasks
        # `in` and not only the list: a fake accepts every name, so that it can say which one was not programmed.
        if known is not None and (task_id in set(known) or (task_id not in named and task_id in known)):
            return str(known[task_id])
        return operations.task_of(task_id, named) or self._names.of(str(task_id))

    def _names_for(self, task: str) -> frozenset[str]:
        """Return this client's names for a task returned by `_task`, without a request."""
        if isinstance(task, Name):
            return frozenset({str(task)})
        known = getattr(self._config.transport, "tasks", None) or {}
        tables = (self._config.tasks, {str(name): str(known[name]) for name in known})
        names = {name for table in tables for name, task_id in table.items() if task_id == task}
        return frozenset({*names, *self._names.names_of(task)})

    def _group_size(self) -> int:
        """Return how many calls may be sent together."""
        most = self._items.most_items() if self._items.one else None
        return min(MOST_CONCURRENCY, most or MOST_CONCURRENCY)

    def _joined(self) -> Mapping[Any, Any]:
        """Return what hooks record about a call that is sent together with others."""
        return {hook: hook.joined() for hook in self._hooks}

    def _name_of(self, task_id: Id) -> str:
        """Return the task's name if it is known, otherwise its id."""
        given = str(task_id)
        return next((name for name, known in self._config.tasks.items() if known == given.lower()), given)

    def _raises(self, raise_on_error: Maybe[bool]) -> bool:
        return self._config.raise_on_error if isinstance(raise_on_error, NotGiven) else raise_on_error

    def _batch(
        self,
        request: Union[models.BatchExecuteRequest, Mapping[str, Any], None],
        parts: dict[str, Any],
        missing: Missing,
    ) -> Operation[models.BatchExecuteResponse]:
        given = {name: value for name, value in parts.items() if value is not NOT_GIVEN}
        if isinstance(request, Mapping):
            given = {**request, **given}
        elif request is not None:
            given = {**{name: getattr(request, name) for name in request.model_fields_set}, **given}
        absent = {name: ["is needed"] for name in ("task_id", "items") if name not in given}
        unknown = {name: ["is not a member of a batch"] for name in given.keys() - parts.keys()}
        if absent or unknown:
            raise ValidationException("the batch is not valid and was not sent", errors={**absent, **unknown})
        task = self._task(given["task_id"])
        given["task_id"] = str(task)
        given["items"] = operations.items_of(models.BatchExecuteItem, given["items"], missing)
        try:
            made = models.BatchExecuteRequest.model_validate(given)
        except ValidationError as error:
            errors = {str(problem["loc"][0]): [problem["msg"]] for problem in error.errors()}
            raise ValidationException("the batch is not valid and was not sent", errors=errors) from None
        return operations.batch_execute(made, task)


def _merged(headers: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Return the headers merged with others, which replace those of the same name."""
    names = {str(name).lower() for name in more}
    return {**{name: text for name, text in headers.items() if name.lower() not in names}, **more}


def _input_check() -> Callable[[Any], Check]:
    """Return the function that compiles a schema. Raises `ConfigurationError` if its library is not installed."""
    if sys.version_info < (3, 10):
        raise ConfigurationError(
            "validate_inputs needs Python 3.10 or newer, and jsonschema-rs there: pip install jsonschema-rs"
        )
    try:
        from .programs.input_check import InputCheck
    except ImportError:
        raise ConfigurationError("validate_inputs needs jsonschema-rs: pip install jsonschema-rs") from None
    return InputCheck


def _made_ready(schema: Any) -> Check:
    return _input_check()(schema)


_warned: set[str] = set()


def _warn_once(config: Config) -> None:
    """Warn, once per process and server, about settings that expose the key or let others impersonate the server."""
    parts = urlsplit(config.base_url)
    host = parts.hostname or ""
    warnings = []
    if config.verify is False and parts.scheme == "https":
        warnings.append(f"verify=False: anyone between here and {host} can impersonate it and read the key")
    if config.api_key is not None and parts.scheme == "http" and not _is_near(host):
        warnings.append(
            f"the API key is sent to {host} over plain http, where anyone on the way can read it: use https"
        )
    for warning in warnings:
        if warning not in _warned:
            _warned.add(warning)
            logger.warning("%s", warning)


def _is_near(host: str) -> bool:
    """Return whether a host is this machine or a container's name."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost") or "." not in host
    return address.is_loopback


def _pace(config: Config) -> Optional[Pace]:
    limit = config.rate_limit
    if limit is None:
        return None
    return pace_of(config.base_url, config.api_key, limit.requests, limit.seconds)


def batch_sender(client: PreparedClient, **options: Unpack[CallOptions]) -> BatchSender:
    """Return the batch engine's way to send requests: each in one attempt, seen by the client's hooks.

    `options` are for these requests, in place of the client's own.
    """
    options["max_retries"], options["deadline"] = 0, None
    once = client.with_options(**options)
    resends = client.config.retry_unknown and client.max_retries != 0
    return BatchSender(once._run, once._hear, client.hooks, client._items, resends=resends, read=client._run)


class BatchSender:
    """A client, as seen by the batch engine; see `loopai.batch.engine.sender.Sender`."""

    def __init__(
        self,
        send: Callable[[Operation[Any]], Any],
        hear: Callable[[tuple[Hooks, ...]], None],
        hooks: tuple[Hooks, ...],
        items: ItemConcurrency,
        *,
        resends: bool,
        read: Callable[[Operation[Any]], Any],
    ) -> None:
        self.items = items
        self.resends = resends
        self._send = send
        self._read = read
        self._hear = hear
        self._hooks = hooks

    def begin(self, batch: CallInfo) -> Callable[[Operation[Any]], Any]:
        """See `Sender`."""
        self._batch = batch
        self._hear((*self._begun(batch), _FreshConnections()))
        return self._send

    def _begun(self, batch: CallInfo) -> list[Hooks]:
        begun: list[Hooks] = []
        try:
            for hook in self._hooks:
                begun.append(hook.batch_started(batch))
        except BaseException as error:
            ended = error
            tell_all(self._hooks[: len(begun)], lambda hook: hook.batch_ended(batch, ended))
            raise
        return begun

    def end(self, error: Optional[BaseException]) -> None:
        """See `Sender`."""
        tell_all(self._hooks, lambda hook: hook.batch_ended(self._batch, error))

    def read_task(self, task_id: str) -> Any:
        """See `Sender`. Retried like the client's own calls."""
        return self._read(operations.get_task(task_id))


class _FreshConnections(Hooks):
    """After a reply that belongs to another request, opens a connection for each request.

    A server that sends one reply too many shifts all later replies on that connection by one.
    """

    def __init__(self) -> None:
        self._wanted = False

    def attempt_started(self, call: CallInfo, request: Request) -> None:
        if self._wanted and isinstance(request.headers, dict):
            request.headers["connection"] = "close"

    def call_ended(self, call: CallInfo, error: Optional[BaseException]) -> None:
        if isinstance(error, ServerException) and error.status_code == 200:
            self._wanted = True
