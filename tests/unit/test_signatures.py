"""The two clients are one surface: the same names, parameters, defaults and words, less `async`."""

from __future__ import annotations

import ast
import inspect
import re
import ssl
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

import loopai.batch.api
import loopai.batch.options
import loopai.client
import loopai.edge
import loopai.preparation
import loopai.transports
from loopai import (
    NOT_GIVEN,
    BoundTask,
    CallOptions,
    ClientOptions,
    ConfigurationError,
    LoopaiClient,
    SyncBoundTask,
    SyncLoopaiClient,
    config,
    exceptions,
    models,
)  # fmt: skip
from loopai.batch import rows
from loopai.batch.engine import scheduler
from loopai.batch.reporting import statistics

PAIRS = [(LoopaiClient, SyncLoopaiClient), (BoundTask, SyncBoundTask)]
METHODS = sorted(name for name in dir(LoopaiClient) if not name.startswith("_"))
TWINS = {
    "AsyncHttpClient": "HttpClient",
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
        one, other = one.fget, other.fget
    assert parameters(one, synchronous) == parameters(other)
    assert not inspect.iscoroutinefunction(other)


def test_bound_tasks_are_twins() -> None:
    """What `bind` gives is called alike."""
    assert parameters(BoundTask.__call__, synchronous) == parameters(SyncBoundTask.__call__)


@pytest.mark.parametrize("name", [name for name in METHODS if not isinstance(getattr(LoopaiClient, name), property)])
def test_what_sends_is_asynchronous_there(name: str) -> None:
    """Exactly the methods that wait are coroutines."""
    waits = name not in {"bind", "local", "with_options", "batch_stream", "batch_sender"}
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
            "wait",
            "on_progress",
        ]


@pytest.mark.parametrize("module", [exceptions, models])
def test_everything_public_has_a_docstring(module: Any) -> None:
    """Models and exceptions as well."""
    for name, kind in vars(module).items():
        if inspect.isclass(kind) and kind.__module__ == module.__name__ and not name.startswith("_"):
            assert kind.__dict__.get("__doc__"), name


KINDS = [LoopaiClient, SyncLoopaiClient, BoundTask, SyncBoundTask, loopai.EdgeProgram, loopai.SyncEdgeProgram]
MODULES = [
    models,
    exceptions,
    loopai.batch,
    loopai.batch.api,
    loopai.batch.options,
    loopai.edge,
    loopai.transports,
    loopai.client,
    loopai.preparation,
]
NAMED = {name: kind for module in MODULES for name, kind in vars(module).items()}


def named_in(annotation: Any) -> set[type]:
    """The package's own classes in an annotation, whether written as text or as a type; aliases are followed."""
    if isinstance(annotation, str):
        words = re.findall(r"\w+", annotation)
        return set().union(*(named_in(NAMED[word]) for word in words if word in NAMED))
    if inspect.isclass(annotation) and annotation.__module__.startswith("loopai") and not get_args(annotation):
        return {annotation}
    return set().union(*(named_in(part) for part in (*get_args(annotation), get_origin(annotation)) if part))


def taken_or_returned() -> set[type]:
    """The package's classes in the clients' signatures, and in the members of the models among them."""
    functions = [
        function
        for kind in KINDS
        for name, member in inspect.getmembers(kind)
        if not name.startswith("_") or name == "__call__" or (name == "__init__" and kind.__name__.endswith("Client"))
        for function in [member.fget if isinstance(member, property) else member]
        if inspect.isroutine(function)
    ]
    waiting = set().union(*(named_in(text) for function in functions for text in function.__annotations__.values()))
    seen: set[type] = set()
    while waiting:
        kind = waiting.pop()
        seen.add(kind)
        if issubclass(kind, models.LoopaiModel):
            parts = [field.annotation for field in kind.model_fields.values()]
            waiting |= set().union(*(named_in(part) for part in parts)) - seen
    return seen - {config.NotGiven, models.EventType}


def test_what_methods_take_and_return_is_imported_from_the_package() -> None:
    """Whoever annotates a function of their own with a result's type needs no other import."""
    kinds = taken_or_returned()
    assert {"Outcome", "Summary", "Stop", "Watcher", "EdgeProgram", "WebhookDelivery"} <= {
        one.__name__ for one in kinds
    }
    assert {kind.__name__ for kind in kinds} <= set(loopai.__all__)
    assert all(getattr(loopai, kind.__name__) is kind for kind in kinds)


def test_what_methods_raise_is_imported_from_the_package() -> None:
    """Each exception that a docstring names, and each one of the documented tree."""
    documented = set(re.findall(r"^[│├└─ ]*([A-Z]\w+) {2,}", exceptions.__doc__ or "", re.MULTILINE))
    assert documented == set(exceptions.__all__)
    told = {
        name
        for kind in KINDS
        for method in vars(kind).values()
        for name in re.findall(r"`(\w+(?:Exception|Error|Keys))`", getattr(method, "__doc__", None) or "")
    }
    assert "OutputError" in told
    assert told | documented <= set(loopai.__all__)


def test_the_lists_of_the_package_agree() -> None:
    """What is imported when it is used, what `import *` gives, and what type checkers see."""
    source = ast.parse(inspect.getsource(loopai))
    block = next(node for node in source.body if isinstance(node, ast.If))
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen | {"__version__"} == set(loopai.__all__)
    assert set(dir(loopai)) >= set(loopai.__all__)


def test_options_as_dictionaries_are_those_of_the_clients() -> None:
    """`with_options` and `local` take each option by the constructor's name and type, but for those that do not fit."""
    described = get_type_hints(ClientOptions)
    for kind in (LoopaiClient, SyncLoopaiClient):
        written = get_type_hints(kind.__init__, localns={"AsyncHttpClient": Any, "HttpClient": Any, "ssl": ssl})
        assert described == {name: written[name] for name in described}
        assert written.keys() - described.keys() == {"transport", "local", "http_client", "return"}
    fixed = {"base_url", "max_connections", "verify", "cert", "proxy", "trust_env", "telemetry"}
    fixed |= {name for name in described if name.startswith("llm_")}
    assert get_type_hints(CallOptions) == {name: described[name] for name in described.keys() - fixed - {"hooks"}}


@pytest.mark.parametrize("kind", [LoopaiClient, SyncLoopaiClient])
def test_an_option_that_is_not_given_is_not_changed(kind: Any) -> None:
    """A wrapper's own arguments can be passed on as they are."""
    client = kind("http://loopai.test", timeout=7).with_options(timeout=NOT_GIVEN, max_retries=NOT_GIVEN, deadline=3)
    assert (client.timeout, client.max_retries, client.config.deadline) == (7, 3, 3)
    assert client.config.sources["max_retries"] == "default"


@pytest.mark.parametrize("kind", [LoopaiClient, SyncLoopaiClient])
@pytest.mark.parametrize("name", ["base_url", "transport", "max_connections", "verify", "trust_env", "local", "timeot"])
def test_what_with_options_does_not_take_is_not_in_its_types(kind: Any, name: str) -> None:
    """What a type checker reports is refused when it runs as well."""
    assert name not in get_type_hints(CallOptions)
    with pytest.raises(ConfigurationError, match=name):
        kind("http://loopai.test").with_options(**{name: "x"})


def test_transports_have_the_names_that_can_be_given() -> None:
    """Type checkers, error messages and Django's checks read one list."""
    assert get_args(config.TransportName) == config.TRANSPORT_NAMES == tuple(loopai.transports._OPENERS)


def test_the_values_of_outcomes_and_summaries_mean_one_thing() -> None:
    """No word stands both for a row's fate and for a run's."""
    statuses, codes = get_args(rows.Status), get_args(rows.Code)
    ended = get_args(statistics.Ended)
    assert not set(ended) & {*statuses, *codes}
    constants = {value for name, value in vars(rows).items() if name.isupper()}
    assert {*statuses, *codes} == constants
    assert {
        *get_args(scheduler.StopReason),
        "finished",
        "finished_before",
        "unusable",
        "fault",
        "unreadable_upload",
    } == set(ended)


def test_a_class_name_means_one_thing_in_the_package() -> None:
    """Whoever searches for a name comes to one class; Django alone wants the same one in each command."""
    places: dict[str, list[str]] = {}
    root = Path(inspect.getfile(loopai)).parent
    for path in root.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and path.parent.name != "commands":
                places.setdefault(node.name, []).append(str(path.relative_to(root)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


@pytest.mark.parametrize("client", [LoopaiClient, SyncLoopaiClient])
def test_hovering_explains_every_parameter(client: Any) -> None:
    """The docstrings of the client and of its batches name each of theirs."""
    for documented in (client, client.batch_stream, client.run_batch):
        names = [name for name in inspect.signature(documented).parameters if name not in {"self", "options"}]
        assert [name for name in names if not re.search(rf"`{name}\b", documented.__doc__)] == []
