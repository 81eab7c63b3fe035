"""What both clients do before anything is sent: options, names of tasks, checked batches, the flow of a call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional, TypeVar, Union
from uuid import UUID

from pydantic import ValidationError
from typing_extensions import Self, Unpack

from . import models
from ._core import operations
from ._core.flow import Policy, Steps, call
from ._core.hooks import CallInfo, Hooks, observed
from ._core.operations import Operation, id_of
from ._core.wire import Headers, Request
from ._version import __version__
from .config import NOT_GIVEN, Arguments, Config, Maybe, NotGiven, resolve
from .exceptions import ConfigurationError, ServerException, ValidationException
from .options import CallOptions

T = TypeVar("T")
Id = Union[str, UUID]

_OF_CONNECTIONS = frozenset({"base_url", "transport", "max_connections", "verify", "trust_env", "local", "telemetry"})


class PreparedClient(ABC):
    """What both clients are made of, and what needs no I/O."""

    def __init__(self, arguments: Arguments, hooks: Sequence[Hooks], brought: Any) -> None:
        config = resolve(arguments)
        if brought is not None:
            given = [name for name in ("transport", "local") if config.sources[name] == "argument"]
            if given:
                raise ConfigurationError(f"http_client and {given[0]} exclude each other")
        self._hooks: tuple[Hooks, ...] = tuple(hooks)
        if config.telemetry:
            from .telemetry import OpenTelemetryHooks

            self._hooks += (OpenTelemetryHooks(),)
        self._owns_transport = brought is None and isinstance(config.transport, str)
        self._closed = False
        self._original: Optional[PreparedClient] = None
        self._configure(config)

    def _configure(self, config: Config) -> None:
        self._config = config
        headers = {
            "accept": "application/json",
            "accept-encoding": "gzip, deflate",
            "user-agent": f"loopai-python/{__version__}",
        }
        if config.api_key is not None:
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
            config.api_key,
        )

    @property
    def base_url(self) -> str:
        """Address of the server, without trailing slash."""
        return self._config.base_url

    @property
    def api_key(self) -> Optional[str]:
        """The key sent as bearer token; `None` if there is none."""
        return self._config.api_key

    @property
    def timeout(self) -> Optional[float]:
        """Seconds one attempt may take; `None` is without bound."""
        return self._config.timeout

    @property
    def max_retries(self) -> Optional[int]:
        """Repetitions after the first attempt; `None` is without limit."""
        return self._config.max_retries

    @property
    def config(self) -> Config:
        """All options, and in `config.sources` where each came from."""
        return self._config

    @property
    def hooks(self) -> tuple[Hooks, ...]:
        """What is called on every call and attempt; with `telemetry`, its hooks too."""
        return self._hooks

    def __repr__(self) -> str:
        if not hasattr(self, "_config"):
            return f"<{type(self).__name__} not configured>"
        key = "set" if self.api_key else "none"
        return f"{type(self).__name__}({self.base_url!r}, api_key={key}, timeout={self.timeout})"

    def __getstate__(self) -> None:
        raise TypeError(f"{type(self).__name__} holds connections and cannot be pickled: make one in each process")

    def with_options(self, **options: Unpack[CallOptions]) -> Self:
        """A copy on the same connections with other options (`timeout=5`, `deadline=2`, `max_retries=0`, …).

        Closing the copy leaves the connections to this client. Raises `ConfigurationError` for an unknown option
        and for what belongs to the connections (`base_url`, `transport`, …).
        """
        fixed = sorted(_OF_CONNECTIONS & options.keys())
        if fixed:
            raise ConfigurationError(f"{fixed[0]} belongs to the connections: make a client of its own with it")
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
        """Gather calls that run by this client's options, not by those of the client it is a copy of."""

    def _is_closed(self) -> bool:
        return self._closed or (self._original is not None and self._original._is_closed())

    def _flow(self, operation: Operation[T]) -> Steps[T]:
        if self._is_closed():
            raise RuntimeError(f"this {type(self).__name__} is closed: make a new one")
        flow = call(operation, self._policy)
        return observed(flow, operation, self._hooks) if self._hooks else flow

    def _task(self, task_id: Id) -> str:
        known = getattr(self._config.transport, "tasks", None)
        named = self._config.tasks
        # Asked, not only listed: a fake knows every name, so that it can say which one was not programmed.
        if known is not None and (task_id in set(known) or (task_id not in named and task_id in known)):
            return str(known[task_id])
        return id_of(task_id, "task_id", named)

    def _raises(self, raise_on_error: Maybe[bool]) -> bool:
        return self._config.raise_on_error if isinstance(raise_on_error, NotGiven) else raise_on_error

    def _batch(
        self, request: Union[models.BatchExecuteRequest, Mapping[str, Any], None], parts: dict[str, Any]
    ) -> Operation[models.BatchExecuteResponse]:
        given = {name: value for name, value in parts.items() if value is not NOT_GIVEN}
        if isinstance(request, Mapping):
            given = {**request, **given}
        elif request is not None:
            given = {**{name: getattr(request, name) for name in request.model_fields_set}, **given}
        missing = {name: ["is needed"] for name in ("task_id", "items") if name not in given}
        unknown = {name: ["is no member of a batch"] for name in given.keys() - parts.keys()}
        if missing or unknown:
            raise ValidationException("the batch is not valid and was not sent", errors={**missing, **unknown})
        given["task_id"] = self._task(given["task_id"])
        given["items"] = operations.items_of(models.BatchExecuteItem, given["items"])
        try:
            made = models.BatchExecuteRequest.model_validate(given)
        except ValidationError as error:
            errors = {str(problem["loc"][0]): [problem["msg"]] for problem in error.errors()}
            raise ValidationException("the batch is not valid and was not sent", errors=errors) from None
        return operations.batch_execute(made)


def batch_sender(client: PreparedClient) -> BatchSender:
    """What the batch engine sends a run's requests through: in one attempt each, seen by the client's hooks."""
    once = client.with_options(max_retries=0, deadline=None)
    return BatchSender(once._run, once._hear, client.hooks)


class BatchSender:
    """A client as the batch engine has it; see `loopai.batch.engine.sender.Sender`."""

    def __init__(
        self,
        send: Callable[[Operation[Any]], Any],
        hear: Callable[[tuple[Hooks, ...]], None],
        hooks: tuple[Hooks, ...],
    ) -> None:
        self._send = send
        self._hear = hear
        self._hooks = hooks

    def begin(self, batch: CallInfo) -> Callable[[Operation[Any]], Any]:
        """See `Sender`."""
        self._batch = batch
        self._hear((*(hook.batch_started(batch) for hook in self._hooks), _FreshConnections()))
        return self._send

    def end(self, error: Optional[BaseException]) -> None:
        """See `Sender`."""
        for hook in self._hooks:
            hook.batch_ended(self._batch, error)


class _FreshConnections(Hooks):
    """Once a reply was not its request's, each request has a connection of its own.

    Who sent one reply too many has put that connection one behind, and all that follow on it get their predecessor's.
    """

    def __init__(self) -> None:
        self._wanted = False

    def attempt_started(self, call: CallInfo, request: Request) -> None:
        if self._wanted and isinstance(request.headers, dict):
            request.headers["connection"] = "close"

    def call_ended(self, call: CallInfo, error: Optional[BaseException]) -> None:
        if isinstance(error, ServerException) and error.status_code == 200:
            self._wanted = True
