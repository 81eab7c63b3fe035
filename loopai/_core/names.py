"""Task names that only the server knows: looked up at the first request, cached, and looked up again on a 404.

The clients use this, and through them the command line, Django and FastAPI. Names in the client's `tasks` are not
looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Callable, TypeVar

from ..exceptions import ConfigurationError, NotFoundException, NotSupportedException
from .flow import Steps
from .operations import Operation, get_task_by_name

T = TypeVar("T")

MOST_NAMES = 1024
"""Names that a client caches; a site has tens of tasks, and a name may come from a request."""


class Name(str):
    """A task's name that no option of the client maps to an id."""

    __slots__ = ()


class NamedId(str):
    """A name with the id that it had when it was last looked up."""

    __slots__ = ("name",)
    name: str


class Names:
    """Successful look-ups of names by a client. Shared by its copies and threads."""

    def __init__(self) -> None:
        self._ids: dict[str, NamedId] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._ids)

    def of(self, name: str) -> str:
        """Return the id that `name` had when it was last looked up, or the name to look up."""
        return self._ids.get(name) or Name(name)

    def names_of(self, task_id: str) -> list[str]:
        """Return the names that had this id when they were last looked up."""
        with self._lock:
            return [name for name, known in self._ids.items() if known == task_id]

    def remember(self, name: str, task_id: str) -> None:
        """Cache a look-up; the oldest one is dropped if there are too many."""
        named = NamedId(task_id)
        named.name = name
        with self._lock:
            self._ids.pop(name, None)
            while len(self._ids) >= MOST_NAMES:
                del self._ids[next(iter(self._ids))]
            self._ids[name] = named

    def forget(self, name: str) -> None:
        """Make the next call look `name` up."""
        with self._lock:
            self._ids.pop(name, None)


def is_named(operation: Operation[T]) -> bool:
    """Return whether the operation's task is a name that the server must look up."""
    return isinstance(operation.task_id, (Name, NamedId))


def by_name(
    operation: Operation[T],
    names: Names,
    flow: Callable[[Operation[T]], Steps[T]],
    look: Callable[[str], Steps[str]],
) -> Steps[T]:
    """Make the call of an operation whose task is a name, as the steps of one call.

    `flow` makes the steps of an operation, `look` those of a look-up. Raises `NotFoundException` for a name that the
    server does not know, and `ConfigurationError` if it cannot look up names.
    """
    again = operation.again
    if again is None:
        raise TypeError(f"{operation.name} cannot be repeated for another task id")
    named = operation.task_id
    known = names.of(named) if isinstance(named, Name) else named
    if known is not named and isinstance(known, NamedId):
        # Looked up in the meantime, for example by another chunk of the same run.
        callers, operation, named = operation.callers, again(known), known
        operation.callers = callers
    fresh = not isinstance(named, NamedId)
    name = named.name if isinstance(named, NamedId) else str(named)
    task_id = str(named)
    if fresh:
        task_id = yield from look(name)
        names.remember(name, task_id)
        callers, operation = operation.callers, again(task_id)
        operation.callers = callers
    try:
        return (yield from flow(operation))
    except NotFoundException:
        if fresh:
            names.forget(name)
            raise
        # The task may have been created again under the same name.
        names.forget(name)
        newer = yield from look(name)
        if newer == task_id:
            raise
        names.remember(name, newer)
    return (yield from flow(again(newer)))


def look_up(
    name: str,
    base_url: str,
    known: Sequence[str],
    flow: Callable[[Operation[T]], Steps[T]],
) -> Steps[str]:
    """Look up a task's id by its name; `known` are the client's own names, for error messages."""
    others = f"; the client's own names are {', '.join(sorted(known))}" if known else ""
    try:
        task = yield from flow(get_task_by_name(name))  # type: ignore[arg-type]  # one function for every result
    except NotFoundException as error:
        missing = NotFoundException(
            f"task {name!r} not found on the server at {base_url}{others}",
            status_code=error.status_code,
            response=error.response,
            code=error.code,
            trace_id=error.trace_id,
            request=error.request,
        )
    except NotSupportedException:
        raise ConfigurationError(
            f"task_id: {name!r} is not a UUID, and the server at {base_url} cannot look up names: name the task's id "
            f"with tasks={{{name!r}: id}}, LOOPAI_TASKS={name}=<id>, or TASKS in the LOOPAI setting of Django{others}"
        ) from None
    else:
        return str(task.id)  # type: ignore[attr-defined]  # see above
    raise missing
