"""The exceptions of the package.

LoopaiException                 base class of everything a call raises
├── ValidationException         400, 413, 415, 422, and input that cannot be sent: `.errors`
├── AuthenticationException     401, 403
├── NotFoundException           404
├── ConflictException           409
├── RateLimitException          429, and the limiter's 500: `.retry_after`
├── ExecutionException          the program failed or could not run: `.execution_id`, `.result`
├── ServerException             other 5xx, and replies that do not come from a Loopai server
│   └── ReplyTooLargeException  a reply larger than `max_reply_bytes`
├── NotSupportedException       the server does not have this operation
└── ConnectionException         no reply: `.original_exception`
    └── TimeoutException        no reply in time

ConfigurationError              invalid settings; not a LoopaiException, so that `except LoopaiException` cannot hide it
└── OptionError                 an option of a batch is invalid; the message names it as you write it
    ├── DuplicateKeys           two rows of a batch's input have the same key
    └── JournalError            the journal belongs to another run, or cannot be continued
        └── RunInProgressError  another process is executing the same run

OutputError                     a batch's output, journal or report cannot be written (a full disk, a closed pipe)

`loopai.webhooks` has its own tree, for deliveries that are not genuine.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from .option_names import OptionNames, in_python, spell

__all__ = [
    "AuthenticationException",
    "ConfigurationError",
    "ConflictException",
    "ConnectionException",
    "DuplicateKeys",
    "ExecutionException",
    "JournalError",
    "LoopaiException",
    "NotFoundException",
    "NotSupportedException",
    "OptionError",
    "OutputError",
    "RateLimitException",
    "ReplyTooLargeException",
    "RunInProgressError",
    "ServerException",
    "TimeoutException",
    "ValidationException",
]


class ConfigurationError(Exception):
    """A setting, argument or environment variable is invalid or missing. The message names it."""


class _Spelled:
    """An error whose text names options: as parameters in `str(error)`, as flags in a shell.

    `template` is a format string: `{key}` is how the user writes the option `key`, unless `values` has that name.
    """

    def __init__(self, template: str, **values: Any) -> None:
        self.template = template
        self.values = values
        # The next base of each class that has this one is an exception.
        super().__init__(self.spelled(in_python))  # type: ignore[call-arg]

    def spelled(self, names: OptionNames) -> str:
        """Return the text, with options named by `names`."""
        return spell(self.template, names, **self.values)

    def __reduce__(self) -> Any:
        return _spelled_again, (type(self), self.template, self.values)


def _spelled_again(kind: type[_Spelled], template: str, values: dict[str, Any]) -> _Spelled:
    return kind(template, **values)


class OptionError(_Spelled, ConfigurationError):
    """An option of a batch is invalid, or conflicts with another one. The message names it."""


class DuplicateKeys(OptionError):
    """Two rows of a batch's input have the same key. The message names keys and lines."""


class JournalError(OptionError):
    """The journal belongs to another run, is in use, or cannot be continued. The message names the difference."""


class RunInProgressError(JournalError):
    """Another process is executing the same run: it uses the journal, or has the `BatchRun` over these rows."""


class OutputError(_Spelled, Exception):
    """A batch's output cannot be written. The message says why, and how to continue the run."""


class LoopaiException(Exception):
    """Base class of everything a call raises.

    - `message`: text for people.
    - `status_code`: the HTTP status; `None` if no reply came.
    - `response`: the decoded body, or the start of its text if it is not JSON.
    - `code`, `trace_id`: the server's own, if it sent any.
    - `request`: the HTTP method and URL.
    - `request_id`: the reply's `X-Request-Id`, or the trace id if it has none.

    None of them contains a key.
    """

    broke_off: bool = False
    """Whether the connection broke in the middle of the reply."""
    arrived: bool = True
    """Whether the request may have reached the server."""

    def __init__(
        self,
        message: str,
        status_code: Optional[int] = None,
        response: Any = None,
        *,
        code: Optional[str] = None,
        trace_id: Optional[str] = None,
        request: Optional[str] = None,
        request_id: Optional[str] = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.response = response
        self.code = code
        self.trace_id = trace_id
        self.request = request
        self.request_id = trace_id if request_id is None else request_id

    def __str__(self) -> str:
        facts = [
            str(fact)
            for fact in (
                self.status_code and f"HTTP {self.status_code}",
                self.code,
                self.trace_id and f"trace {self.trace_id}",
                self.request,
            )
            if fact
        ]
        return f"{self.message} [{', '.join(facts)}]" if facts else self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.__getstate__())

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "__notes__"}

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return bool(self.__getstate__() == other.__getstate__())

    def __hash__(self) -> int:
        return hash((type(self), self.message, self.status_code))


def _rebuild(kind: type[LoopaiException], message: str, state: Mapping[str, Any]) -> LoopaiException:
    exception = kind.__new__(kind, message)
    exception.args = (message,)
    exception.__dict__.update(state)
    return exception


class ValidationException(LoopaiException):
    """The server rejected the request as invalid, or it cannot be sent.

    `errors` maps Python field names (`latency_target_ms`, `items[0].id`, `input.subject`) to lists of texts,
    whichever form the server's error has.
    """

    def __init__(
        self,
        message: str,
        status_code: Optional[int] = None,
        errors: Optional[Mapping[str, Sequence[str]]] = None,
        **facts: Any,
    ) -> None:
        super().__init__(message, status_code, **facts)
        self.errors: dict[str, list[str]] = {name: list(texts) for name, texts in (errors or {}).items()}

    def __str__(self) -> str:
        told = [
            f"{name or 'body'}: {', '.join(texts)}"
            for name, texts in self.errors.items()
            if not all(text in self.message for text in texts)
        ]
        return " ".join([super().__str__(), "; ".join(told)]) if told else super().__str__()


class AuthenticationException(LoopaiException):
    """401 or 403: the API key is missing, wrong, or not allowed to do this."""


class NotFoundException(LoopaiException):
    """404: the server has no such task, artifact or subscription."""


class ConflictException(LoopaiException):
    """409: it already exists, or its state does not allow this."""


class RateLimitException(LoopaiException):
    """Rate limited. `retry_after` is how many seconds to wait; `None` if the server does not say."""

    def __init__(
        self,
        message: str,
        status_code: Optional[int] = None,
        response: Any = None,
        *,
        retry_after: Optional[float] = None,
        **facts: Any,
    ) -> None:
        super().__init__(message, status_code, response, **facts)
        self.retry_after = retry_after


class ExecutionException(LoopaiException):
    """The program failed, or could not run. `result` is the execution as the server reported it."""

    def __init__(
        self,
        message: str,
        status_code: Optional[int] = None,
        execution_id: Optional[str] = None,
        *,
        result: Any = None,
        **facts: Any,
    ) -> None:
        super().__init__(message, status_code, **facts)
        self.execution_id = execution_id
        self.result = result


class ServerException(LoopaiException):
    """The server failed (5xx), or the reply does not come from a Loopai server.

    `retry_after` is how many seconds a 503 says to wait; `None` if it does not say.
    """

    def __init__(
        self,
        message: str,
        status_code: Optional[int] = None,
        response: Any = None,
        *,
        retry_after: Optional[float] = None,
        **facts: Any,
    ) -> None:
        super().__init__(message, status_code, response, **facts)
        self.retry_after = retry_after


class ReplyTooLargeException(ServerException):
    """The reply is larger than `max_reply_bytes`; reading stopped there.

    Batches and coalesced calls then send fewer inputs per request, until the input that causes it is alone.
    """


class NotSupportedException(LoopaiException):
    """The server does not have this operation. The message names both."""


class ConnectionException(LoopaiException):
    """No reply came: the network or the server's process failed. `original_exception` is what the transport raised."""

    retryable: bool = True
    """Whether a retry may succeed; False for an untrusted certificate and for a first execution that timed out."""

    def __init__(self, message: str, original_exception: Optional[BaseException] = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.original_exception = original_exception

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state["original_exception"] = _portable(self.original_exception)
        return state

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        mine, theirs = self.__getstate__(), other.__getstate__()
        # Exceptions compare by identity, which no copy keeps: compare their messages instead.
        return {**mine, "original_exception": repr(mine["original_exception"])} == {
            **theirs,
            "original_exception": repr(theirs["original_exception"]),
        }

    __hash__ = LoopaiException.__hash__


class TimeoutException(ConnectionException):
    """No reply within `timeout` (one attempt) or `deadline` (the whole call). The message says how time was spent."""


# What pickling and unpickling an exception of another library may raise.
_UNPORTABLE = (
    pickle.PickleError, ArithmeticError, AttributeError, EOFError, ImportError, LookupError, OSError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip


def _portable(error: Optional[BaseException]) -> Optional[BaseException]:
    """Return the exception if it can be pickled, otherwise an `OSError` with the same text."""
    if error is None:
        return None
    try:
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    except _UNPORTABLE:
        return OSError(f"{type(error).__name__}: {error}")
    return error if type(copy) is type(error) else OSError(f"{type(error).__name__}: {error}")
