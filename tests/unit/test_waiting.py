"""Waiting for a task's program: how often the server is asked, what is told meanwhile, and when the wait ends."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from loopai import models
from loopai._core.flow import Sleep, Steps, Wanted
from loopai._core.waiting import until_made, version_made
from loopai.exceptions import ExecutionException, TimeoutException

TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"


def task(**generation: Any) -> models.Task:
    given = {"id": TASK, "name": "spam", "description": "d", "created_at": "2026-01-01T00:00:00Z"}
    return models.Task.model_validate({**given, "generation": generation or None})


RUNNING = {"status": "running", "stage": "asking for a program", "seconds": 1.0}


class Waiting:
    """A wait on a clock that pauses move; `replies` are what the server says, `cost` the seconds of each."""

    def __init__(self, *replies: Any, deadline: Optional[float] = None, cost: float = 0.0) -> None:
        self.replies = list(replies)
        self.now = 0.0
        self.cost = cost
        self.pauses: list[float] = []
        self.left: list[Optional[float]] = []
        self.stages: list[Optional[str]] = []
        self.steps = until_made(self._begin, self._look, deadline, lambda: self.now, self._tell)

    def _answer(self, left: Optional[float]) -> Steps[models.Task]:
        self.left.append(left)
        self.now += self.cost
        answer = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(answer, Exception):
            raise answer
        return answer
        yield

    def _begin(self, left: Optional[float]) -> Steps[models.Task]:
        return self._answer(left)

    def _look(self, task_id: str, left: Optional[float]) -> Steps[models.Task]:
        assert task_id == TASK
        return self._answer(left)

    def _tell(self, state: models.GenerationState) -> None:
        self.stages.append(state.stage)

    def end(self) -> models.Task:
        """Do what the steps ask for, and return what the call gives."""
        try:
            while True:
                step = next(self.steps)
                if isinstance(step, Wanted):
                    step.source()
                else:
                    assert isinstance(step, Sleep)
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
        except StopIteration as done:
            found: models.Task = done.value
            return found


def test_pauses_grow_to_a_second() -> None:
    """A program that takes milliseconds is there at once, and one that takes minutes is asked for once a second."""
    waiting = Waiting(*[task(**RUNNING)] * 30, task(status="made", version=1))
    found = waiting.end()
    assert version_made(found) == 1
    assert waiting.pauses[:3] == pytest.approx([0.05, 0.075, 0.1125])
    assert max(waiting.pauses) == waiting.pauses[-1] == 1.0
    assert waiting.stages == ["asking for a program"] * 30
    assert set(waiting.left) == {None}


@pytest.mark.parametrize("first", [task(), task(status="made", version=2), task(status="failed", reason="too few")])
def test_nothing_is_waited_for_where_nothing_is_made(first: models.Task) -> None:
    """A server that says nothing of it, or has it already: no pause, no word."""
    waiting = Waiting(first)
    assert waiting.end() == first
    assert (waiting.pauses, waiting.stages) == ([], [])


def test_the_deadline_bounds_all_of_it() -> None:
    """Each look gets what is left; the error says that the program is made all the same."""
    waiting = Waiting(task(**RUNNING), deadline=2.0, cost=0.1)
    with pytest.raises(TimeoutException) as caught:
        waiting.end()
    assert "task spam" in caught.value.message
    assert "not made within the deadline of 2 s: asking for a program" in caught.value.message
    assert waiting.left[0] == 2.0
    assert all(left is not None and left > 0 for left in waiting.left)
    assert waiting.now <= 2.0


def test_a_look_that_is_late_is_the_deadlines_error() -> None:
    """One that fails before it is its own."""
    late = Waiting(task(**RUNNING), TimeoutException("no reply"), deadline=1.0, cost=0.99)
    with pytest.raises(TimeoutException, match="not made within the deadline"):
        late.end()
    early = Waiting(task(**RUNNING), TimeoutException("no reply"), deadline=100.0)
    with pytest.raises(TimeoutException, match=r"^no reply$"):
        early.end()
    unbounded = Waiting(task(**RUNNING), TimeoutException("no reply"))
    with pytest.raises(TimeoutException, match=r"^no reply$"):
        unbounded.end()


def test_a_version_that_was_not_made_is_an_error() -> None:
    """With the reason, where there is one."""
    with pytest.raises(ExecutionException, match="Program generation failed: too few"):
        version_made(task(status="failed", reason="too few"))
    with pytest.raises(ExecutionException, match="Program generation failed"):
        version_made(task())
