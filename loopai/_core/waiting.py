"""A call that waits until a task's program is made, as a generator: begin, poll, return the task."""

from __future__ import annotations

from typing import Any, Callable, Optional

from ..exceptions import ExecutionException, TimeoutException
from ..models import GenerationState, Task
from .flow import Sleep, Steps, Wanted

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
"""Seconds before the first poll; each pause is 1.5 times the one before."""

LEAST = 0.001
"""Time limit of a poll after the deadline, so that it times out like any other call."""

RUNNING = "running"
ON_PROGRESS = Callable[[GenerationState], Any]
"""Called at each poll with what is being made; the asynchronous client awaits it."""

Left = Optional[float]


def until_made(
    begin: Callable[[Left], Steps[Task]],
    look: Callable[[str, Left], Steps[Task]],
    deadline: Left,
    clock: Callable[[], float],
    on_progress: Optional[ON_PROGRESS] = None,
) -> Steps[Task]:
    """Begin, and return the task once nothing is being made for it. `begin` and `look` get the remaining seconds.

    Raises `TimeoutException` after `deadline` seconds; the program is still made.
    """
    began = clock()

    def left() -> Left:
        return None if deadline is None else deadline - (clock() - began)

    task = yield from begin(left())
    pause = FIRST_PAUSE
    while task.generation is not None and task.generation.status == RUNNING:
        state = task.generation
        if on_progress is not None:
            yield Wanted(lambda state=state: on_progress(state))  # type: ignore[misc]  # mypy infers no default
        remaining = left()
        if remaining is not None and pause >= remaining:
            raise _late(task, state, deadline)
        yield Sleep(pause)
        pause = min(LONGEST_PAUSE, pause * 1.5)
        remaining = left()
        try:
            task = yield from look(str(task.id), None if remaining is None else max(LEAST, remaining))
        except TimeoutException as error:
            remaining = left()
            if remaining is None or remaining > 0:
                raise
            raise _late(task, state, deadline) from error
    return task


def _late(task: Task, state: GenerationState, deadline: Left) -> TimeoutException:
    return TimeoutException(
        f"the program of task {task.name} ({task.id}) is not made within the deadline of {deadline:g} s: "
        f"{state.stage}. It is still being made: get_task shows when it is ready"
    )


def version_made(task: Task) -> int:
    """Return the version that was made. Raises `ExecutionException` if none could be."""
    state = task.generation
    if state is None or state.version is None:
        reason = "" if state is None or state.reason is None else f": {state.reason}"
        raise ExecutionException(f"Program generation failed{reason}", code="EXECUTION_ERROR")
    return state.version
