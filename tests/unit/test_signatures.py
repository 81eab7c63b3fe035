"""The two clients are one surface: the same names, parameters, defaults and words, less `async`."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from loopai import BoundTask, LoopaiClient, SyncBoundTask, SyncLoopaiClient, exceptions, models

PAIRS = [(LoopaiClient, SyncLoopaiClient), (BoundTask, SyncBoundTask)]
METHODS = sorted(name for name in dir(LoopaiClient) if not name.startswith("_"))
TWINS = {
    "AsyncTransport": "Transport",
    "httpx.AsyncClient": "httpx.Client",
    "BoundTask": "SyncBoundTask",
    "EdgeProgram": "SyncEdgeProgram",
    "LoopaiClient": "SyncLoopaiClient",
    "AsyncIterator": "Iterator",
    "AsyncIterable": "Iterable",
    "AsyncGenerator": "Generator",
    "AsyncOutcomes": "Outcomes",
    "Rows": "SyncRows",
}


def synchronous(annotation: Any) -> str:
    """An annotation of the asynchronous client as its twin's."""
    return re.sub(r"(?<![\w.])(httpx\.\w+|\w+)", lambda found: TWINS.get(found[0], found[0]), str(annotation))


def parameters(function: Any, turn: Any = str) -> list[tuple[Any, ...]]:
    signature = inspect.signature(function)
    found = [(p.name, p.kind, p.default, turn(p.annotation)) for p in signature.parameters.values()]
    return [*found, ("return", turn(signature.return_annotation))]


def test_both_have_the_same_names() -> None:
    """No method is forgotten on either side."""
    assert sorted(name for name in dir(SyncLoopaiClient) if not name.startswith("_")) == METHODS
    assert len(METHODS) > 35


@pytest.mark.parametrize("name", [*METHODS, "__init__"])
def test_a_method_and_its_twin(name: str) -> None:
    """Names, kinds, defaults and annotations of all parameters are the same."""
    one, other = getattr(LoopaiClient, name), getattr(SyncLoopaiClient, name)
    if isinstance(one, property):
        assert one is other
        return
    assert parameters(one, synchronous) == parameters(other)
    assert not inspect.iscoroutinefunction(other)


def test_bound_tasks_are_twins() -> None:
    """What `bind` gives is called alike."""
    assert parameters(BoundTask.__call__, synchronous) == parameters(SyncBoundTask.__call__)


@pytest.mark.parametrize("name", [name for name in METHODS if not isinstance(getattr(LoopaiClient, name), property)])
def test_what_sends_is_asynchronous_there(name: str) -> None:
    """Exactly the methods that wait are coroutines."""
    waits = name not in {"bind", "local", "with_options", "batch_stream"}
    assert inspect.iscoroutinefunction(getattr(LoopaiClient, name)) == waits


@pytest.mark.parametrize("name", METHODS)
def test_docstrings_say_the_same(name: str) -> None:
    """Each method has one, and both clients the same."""
    one, other = inspect.getdoc(getattr(LoopaiClient, name)), inspect.getdoc(getattr(SyncLoopaiClient, name))
    assert one
    assert synchronous(one) == other or one == other


def test_the_order_of_arguments_is_fixed() -> None:
    """Four by position, the rest by keyword; the calls as published."""
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for kind in (LoopaiClient, SyncLoopaiClient):
        found = [p.name for p in inspect.signature(kind).parameters.values() if p.kind is positional]
        assert found == ["base_url", "api_key", "timeout", "max_retries"]
        names = {
            name: [
                p.name
                for p in inspect.signature(getattr(kind, name)).parameters.values()
                if p.kind is not inspect.Parameter.VAR_KEYWORD
            ][1:]
            for name in METHODS
            if callable(getattr(kind, name))
        }
        assert names["execute"] == [
            "task_id",
            "input_data",
            "version",
            "timeout_ms",
            "force_validation",
            "raise_on_error",
        ]
        assert names["batch_execute"] == ["task_id", "inputs", "max_concurrency", "missing"]
        assert names["create_task"] == [
            "name",
            "description",
            "input_schema",
            "output_schema",
            "examples",
            "accuracy_target",
            "latency_target_ms",
            "sampling_rate",
        ]


@pytest.mark.parametrize("module", [exceptions, models])
def test_everything_public_has_a_docstring(module: Any) -> None:
    """Models and exceptions as well."""
    for name, kind in vars(module).items():
        if inspect.isclass(kind) and kind.__module__ == module.__name__ and not name.startswith("_"):
            assert kind.__dict__.get("__doc__"), name
