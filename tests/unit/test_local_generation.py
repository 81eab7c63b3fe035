"""When programs are made: in the order of who waits, once for all who ask, and told while it lasts."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any, Callable, Optional

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the embedded server needs Python 3.10", allow_module_level=True)
pytest.importorskip("pydantic_monty", reason="programs run in its sandbox")

from loopai.local.generation import WAITING, Generation, StillGenerating
from loopai.local.records import Artifact
from loopai.local.service import ExecutionFailed
from loopai.local.trainer import LARGEST_EXAMPLES


def artifact(task_id: str, version: int, status: str = "active") -> Artifact:
    return Artifact(
        "id",
        task_id,
        version,
        "python",
        "",
        "rule",
        1.0,
        None,
        None,
        None,
        "local",
        "m",
        0.0,
        0.0,
        status,
        0.0,
        0,
        None,
    )


class Made:
    """Makes programs when a test says so: `Versions` as `Generation` has it, and `Trainer`."""

    closed = False

    def __init__(self, status: str = "active", open_at_once: bool = True) -> None:
        self.order: list[tuple[str, str]] = []
        self.may_end = threading.Event()
        self.stage = threading.Event()
        self.begun = {task: threading.Event() for task in "abc"}
        self.fails: Optional[str] = None
        self.have_one = {"has-one"}
        self._status = status
        self._versions = 0
        if open_at_once:
            self.may_end.set()

    def examples_size(self, task_id: str) -> int:
        return 10 if task_id != "large" else LARGEST_EXAMPLES

    def first_job(self, task_id: str) -> Optional[bytes]:
        if task_id in self.have_one:
            return None
        self.order.append(("first", task_id))
        if task_id in self.begun:
            self.begun[task_id].set()
        return b"{}"

    def next_job(self, task_id: str) -> bytes:
        self.order.append(("next", task_id))
        return b"{}"

    def make_first(self, task_id: str, job: bytes, tell: Callable[[str], None]) -> Artifact:
        tell("working")
        self.stage.set()
        self.may_end.wait()
        if self.fails is not None:
            raise ExecutionFailed(self.fails)
        self._versions += 1
        if self._status == "active":
            self.have_one.add(task_id)
        return artifact(task_id, self._versions, self._status)

    make_next = make_first

    def why_draft(self, made: Artifact) -> str:
        return f"version {made.version} is a draft"

    def close(self) -> None:
        self.closed = True
        self.may_end.set()


def generation(made: Made, patience: float = 60.0) -> Generation:
    fake: Any = made
    return Generation(fake, fake, patience)


async def until(event: threading.Event) -> None:
    await asyncio.to_thread(event.wait)


async def test_what_is_created_is_made_one_after_the_other() -> None:
    """And told until it is made."""
    made = Made(open_at_once=False)
    service = generation(made)
    for task in ("a", "b", "c"):
        service.start(task)
        assert service.progress(task).stage == WAITING  # type: ignore[union-attr]
    await until(made.stage)
    assert service.progress("a").stage == "working"  # type: ignore[union-attr]
    assert service.progress("b").stage == WAITING  # type: ignore[union-attr]
    assert made.order == [("first", "a")]
    made.may_end.set()
    for task in ("a", "c", "b"):
        await service.ensure(task)
    assert sorted(made.order) == [("first", "a"), ("first", "b"), ("first", "c")]
    assert service.progress("a") is None
    await service.close()


async def test_who_waits_goes_before_what_was_created() -> None:
    """An execution does not queue behind tasks that nobody asked yet."""
    made = Made(open_at_once=False)
    service = generation(made)
    for task in ("a", "b", "c"):
        service.start(task)
    await until(made.stage)
    waiting = asyncio.create_task(service.ensure("c"))
    await until(made.begun["c"])
    assert ("first", "b") not in made.order
    made.may_end.set()
    await waiting
    await service.close()


async def test_many_who_ask_wait_for_one_program() -> None:
    """And one that has a program by then needs none."""
    made = Made()
    service = generation(made)
    await asyncio.gather(*(service.ensure("a") for _ in range(5)))
    assert made.order == [("first", "a")]
    service.start("has-one")
    await service.ensure("has-one")
    await service.close()


async def test_what_was_withdrawn_is_not_made() -> None:
    """A task that got a program of the user's own."""
    made = Made(open_at_once=False)
    service = generation(made)
    service.start("a")
    await until(made.stage)
    service.start("b")
    service.withdraw("b")
    assert service.progress("b") is None
    made.may_end.set()
    await service.ensure("a")
    await service.close()
    assert made.order == [("first", "a")]


async def test_who_waits_too_long_is_told_to_come_again() -> None:
    """The program is made all the same."""
    made = Made(open_at_once=False)
    service = generation(made, patience=0.0)
    with pytest.raises(StillGenerating, match="still being made"):
        await service.ensure("a")
    made.may_end.set()
    made_after = await service.next_version("a")
    assert made_after.version == 1
    assert made.order == [("first", "a")]
    await service.close()


async def test_a_draft_or_a_failure_is_the_reason_of_each_execution() -> None:
    """A failure is kept until the examples or the versions change."""
    made = Made("draft")
    service = generation(made)
    with pytest.raises(ExecutionFailed, match="version 1 is a draft"):
        await service.ensure("a")
    made.fails = "nothing fits"
    for _ in range(2):
        with pytest.raises(ExecutionFailed, match="nothing fits"):
            await service.ensure("b")
    assert made.order.count(("first", "b")) == 1
    for change in (service.forget, service.reconsider):
        change("b")
        with pytest.raises(ExecutionFailed, match="nothing fits"):
            await service.ensure("b")
    assert made.order.count(("first", "b")) == 3
    await service.close()


async def test_next_versions_of_the_same_examples_are_one() -> None:
    """Those asked for while it is being made get it; once the examples have changed there is another after it."""
    made = Made(open_at_once=False)
    service = generation(made)
    first = asyncio.create_task(service.next_version("a"))
    second = asyncio.create_task(service.next_version("a"))
    await until(made.stage)
    assert service.progress("a") is not None
    service.forget("a")
    third = asyncio.create_task(service.next_version("a"))
    made.may_end.set()
    versions = [(await one).version for one in (first, second, third)]
    assert len(made.order) in {2, 3}
    assert versions[0] < versions[2]
    assert made.order[0] == ("next", "a")
    await service.close()


async def test_an_execution_waits_for_the_next_version_that_is_being_made() -> None:
    """It does not have a first one made beside it."""
    made = Made(open_at_once=False)
    service = generation(made)
    begun = service.start_next("a")
    await until(made.stage)
    waiting = asyncio.create_task(service.ensure("a"))
    await asyncio.sleep(0)
    made.may_end.set()
    await waiting
    assert (await begun) is not None
    assert made.order == [("next", "a")]
    await service.close()


async def test_the_end_cuts_off_what_is_being_made() -> None:
    """And what waits."""
    made = Made(open_at_once=False)
    service = generation(made)
    for task in ("a", "b"):
        service.start(task)
    await until(made.stage)
    next_one = service.start_next("c")
    await service.close()
    assert next_one.cancelled() or next_one.done()
    assert ("first", "b") not in made.order
