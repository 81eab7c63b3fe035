"""Exceptions travel: through pickle, copies and worker processes, equal and useful at the other end."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle
import socket
import threading
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NoReturn

import pytest

from loopai import exceptions, models
from loopai.exceptions import (
    AuthenticationException,
    ConfigurationError,
    ConflictException,
    ConnectionException,
    ExecutionException,
    LoopaiException,
    NotFoundException,
    NotSupportedException,
    RateLimitException,
    ServerException,
    TimeoutException,
    ValidationException,
)

FACTS: dict[str, Any] = {
    "status_code": 418,
    "response": {"code": "TEAPOT", "list": [1, None, {"a": 1.5}]},
    "code": "TEAPOT",
    "trace_id": "0HNC4V1QK2J9B:00000003",
    "request": "POST http://loopai.test/x",
}
RESULT = models.ExecutionResult.model_validate(
    {
        "execution_id": "c2d3e4f5-0617-4283-9a4b-5c6d7e8f9012",
        "task_id": "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60",
        "status": "error",
        "error_message": "boom",
        "executed_at": "2025-11-03T08:16:05.9081726Z",
        "newer": {"member": 1},
    }
)


class Needy(Exception):
    """Cannot be put together again: its constructor wants more than it keeps."""

    def __init__(self, a: str, *, b: str) -> None:
        super().__init__(a)
        self.b = b


class Stubborn(Exception):
    """Raises something of its own when it is taken apart."""

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("not me")


class Locked(Exception):
    """Holds what no pickle can."""

    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


class Shifty(Exception):
    """Comes back as something else."""

    def __reduce__(self) -> tuple[Any, ...]:
        return ValueError, ("other",)


def local_class() -> Exception:
    class Local(Exception):
        pass

    return Local("local")


EXCEPTIONS: list[LoopaiException] = [
    LoopaiException("plain"),
    LoopaiException("full", **FACTS),
    ValidationException("bad", errors={"name": ["is needed"], "items[0].id": ["a", "b"]}, **FACTS),
    ValidationException("bad"),
    AuthenticationException("who?", **FACTS),
    NotFoundException("gone", **FACTS),
    ConflictException("taken", **FACTS),
    RateLimitException("slow", retry_after=2.5, **FACTS),
    RateLimitException("slow"),
    ExecutionException("boom", execution_id=str(RESULT.id), result=RESULT, **FACTS),
    ServerException("down", retry_after=1.0, **FACTS),
    NotSupportedException("no", **FACTS),
    ConnectionException("lost"),
    ConnectionException("lost", original_exception=ConnectionResetError(104, "reset"), **FACTS),
    TimeoutException("late", original_exception=socket.timeout("timed out"), **FACTS),
    TimeoutException("late", original_exception=ServerException("down", retry_after=3.0), **FACTS),
]
UNPORTABLE = [Needy("a", b="b"), Stubborn("s"), Locked(), Shifty("x"), local_class()]


def named(value: Any) -> str:
    return type(value).__name__


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))  # below: the classes of Python 2
@pytest.mark.parametrize("error", EXCEPTIONS, ids=named)
def test_pickle(error: LoopaiException, protocol: int) -> None:
    """What arrives is equal, of the same class, and says the same."""
    arrived = pickle.loads(pickle.dumps(error, protocol))
    assert arrived == error
    assert type(arrived) is type(error)
    assert hash(arrived) == hash(error)
    assert (str(arrived), repr(arrived), arrived.args) == (str(error), repr(error), error.args)
    assert vars(arrived).keys() == vars(error).keys()


@pytest.mark.parametrize("error", EXCEPTIONS, ids=named)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies(error: LoopaiException, duplicate: Any) -> None:
    """Copies are equal and their own."""
    made = duplicate(error)
    assert made == error
    assert made is not error


@pytest.mark.parametrize("original", UNPORTABLE, ids=named)
@pytest.mark.parametrize("kind", [ConnectionException, TimeoutException])
def test_an_original_that_cannot_travel_is_told(kind: type[ConnectionException], original: Exception) -> None:
    """An `OSError` with its class and words takes its place; the error here keeps the real one."""
    error = kind("lost", original_exception=original)
    arrived = pickle.loads(pickle.dumps(error))
    assert arrived == error
    assert type(arrived.original_exception) is OSError
    assert str(arrived.original_exception) == f"{type(original).__name__}: {original}"
    assert error.original_exception is original
    assert pickle.loads(pickle.dumps(arrived)) == arrived


def test_whether_to_try_again_survives() -> None:
    """A copy from another process says as well that the certificate will not be trusted next time."""
    error = TimeoutException("no reply")
    assert error.retryable
    error.retryable = False
    assert not pickle.loads(pickle.dumps(error)).retryable


def raise_it(number: int) -> NoReturn:
    raise EXCEPTIONS[number]


@pytest.mark.slow
def test_out_of_worker_processes() -> None:
    """A pool's worker raises, and the parent catches the same."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for error in EXCEPTIONS:
            raised = pool.submit(pickle.loads, pickle.dumps(error)).result(timeout=60)
            assert raised == error


def test_through_a_pipe_as_workers_do() -> None:
    """What multiprocessing does to an exception: it goes over a pipe with its traceback told apart."""
    here, there = multiprocessing.Pipe()
    for number, error in enumerate(EXCEPTIONS):
        try:
            raise_it(number)
        except LoopaiException as raised:
            there.send(raised)
        arrived = here.recv()
        assert arrived == error
        with pytest.raises(type(error)):
            raise arrived


def test_notes_stay_behind_and_context_is_no_part() -> None:
    """What was added to one raise is not what the exception is."""
    error = LoopaiException("x")
    error.__dict__["__notes__"] = ["added"]
    assert error == LoopaiException("x")
    assert pickle.loads(pickle.dumps(error)) == error


@pytest.mark.parametrize("error", EXCEPTIONS, ids=named)
def test_equal_means_all_of_it(error: LoopaiException) -> None:
    """Another class, message or fact is another error; anything else is not equal at all."""
    assert error == copy.copy(error)
    assert error != LoopaiException("something else")
    assert error != "text"
    other = copy.copy(error)
    other.trace_id = "another"
    assert other != error


def test_other_originals_are_other_errors() -> None:
    """The words of the original count, not its identity."""
    first = ConnectionException("lost", original_exception=OSError("a"))
    assert first == ConnectionException("lost", original_exception=OSError("a"))
    assert first != ConnectionException("lost", original_exception=OSError("b"))
    assert first != TimeoutException("lost", original_exception=OSError("a"))


def test_the_tree_is_as_drawn() -> None:
    """The drawing that heads the module is the module."""
    drawn: dict[str, str] = {}
    above = ["Exception"]
    for line in inspect.cleandoc(exceptions.__doc__ or "").splitlines():
        if not line.strip() or " " * 2 not in line:
            continue
        depth = max(line.find("├── "), line.find("└── ")) // 4 + 1
        name = line.split("── ")[-1].split(" ")[0]
        above[depth + 1 :] = [name]
        drawn[name] = above[depth]
    real = {name: getattr(exceptions, name).__base__.__name__ for name in exceptions.__all__}
    assert drawn == real


def test_configuration_is_no_loopai_exception() -> None:
    """`except LoopaiException` must not hide a wrong setting."""
    assert not issubclass(ConfigurationError, LoopaiException)


def test_text_says_what_was_asked_of_whom() -> None:
    """Message first, then the facts, then the fields."""
    error = ValidationException("bad request", errors={"name": ["is needed", "is short"], "": ["x"]}, **FACTS)
    assert str(error) == (
        "bad request [HTTP 418, TEAPOT, trace 0HNC4V1QK2J9B:00000003, POST http://loopai.test/x] "
        "name: is needed, is short; body: x"
    )
    assert repr(error) == f"ValidationException({str(error)!r})"
    assert str(LoopaiException("just this")) == "just this"
    # What the message has said already is not said again.
    assert str(ValidationException("name: is needed", errors={"name": ["is needed"], "x": ["y"]})) == (
        "name: is needed x: y"
    )
    assert str(ValidationException("no fields")) == "no fields"
