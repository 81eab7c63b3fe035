"""One rule for what JSON cannot say, whatever container it hides in."""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from collections import OrderedDict, UserDict, deque
from collections.abc import Iterable, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, NewType, Union

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    SecretBytes,
    SecretStr,
    computed_field,
    field_serializer,
    model_serializer,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypeAliasType, TypedDict

from loopai import LoopaiClient, SyncLoopaiClient
from loopai._core.encoding import encode
from loopai._core.members import NAMED_TUPLES_ARE_TYPED
from loopai._core.schemas import schema_of
from loopai.exceptions import ValidationException

NAN, INF = float("nan"), float("inf")


@dataclasses.dataclass
class Plain:
    score: Any


@pydantic_dataclass
class Checked:
    score: Any


class Open(BaseModel):
    score: Any


class Closed(BaseModel):
    score: float


class Root(RootModel[Any]):
    pass


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")


class Computed(BaseModel):
    hidden: Any = Field(default=None, exclude=True)

    @computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def score(self) -> Any:
        return self.hidden


class Aliased(BaseModel):
    inner: Any = Field(serialization_alias="score")


class Pair(NamedTuple):
    score: Any


class Level(enum.Enum):
    BAD = NAN


CONTAINERS: dict[str, tuple[Any, str]] = {
    "bare": (lambda value: value, ""),
    "dict": (lambda value: {"score": value}, ".score"),
    "list": (lambda value: [0, value], "[1]"),
    "tuple": (lambda value: (value,), "[0]"),
    "named tuple": (Pair, "[0]"),
    "deque": (lambda value: deque([value]), "[0]"),
    "generator": (lambda value: (each for each in [value]), "[0]"),
    "iterator": (lambda value: iter([value]), "[0]"),
    "dataclass": (Plain, ".score"),
    "pydantic dataclass": (Checked, ".score"),
    "model": (lambda value: Open(score=value), ".score"),
    "root model": (Root, ""),
    "extra member": (lambda value: Extra(score=value), ".score"),
    "computed member": (lambda value: Computed(hidden=value), ".score"),
    "alias": (lambda value: Aliased(inner=value), ".score"),
    "dict in a model": (lambda value: Open(score={"a": [value]}), ".score.a[0]"),
    "model in a dict": (lambda value: {"a": Open(score=value)}, ".a.score"),
    "model in a dataclass": (lambda value: Plain(Open(score=value)), ".score.score"),
    "dataclass in a model": (lambda value: Open(score=Plain(value)), ".score.score"),
    "ordered dict": (lambda value: OrderedDict(score=value), ".score"),
    "read-only dict": (lambda value: MappingProxyType({"score": value}), ".score"),
    "user's dict": (lambda value: UserDict(score=value), ".score"),
}
if NAMED_TUPLES_ARE_TYPED:  # before that version of pydantic a deque where any value may be is no JSON at all
    CONTAINERS.update(
        {
            "deque in a model": (lambda value: Open(score=deque([value])), ".score[0]"),
            "deque in a root model": (lambda value: Root(deque([[value]])), "[0][0]"),
            "deque in a pydantic dataclass": (lambda value: Checked({"a": deque([value])}), ".score.a[0]"),
        }
    )
FLAWS: dict[str, tuple[Any, str]] = {
    "nan": (NAN, "not a JSON number"),
    "infinity": (INF, "not a JSON number"),
    "minus infinity": (-INF, "not a JSON number"),
    "decimal": (Decimal("NaN"), "not a JSON number"),
    "set": ({"b", "a"}, "no order"),
    "frozenset": (frozenset({1}), "no order"),
    "secret": (SecretStr("hush"), "secret"),
    "secret bytes": (SecretBytes(b"hush"), "secret"),
    "enum": (Level.BAD, "not a JSON number"),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("flaw", FLAWS)
def test_what_json_cannot_say_is_named_by_its_place(container: str, flaw: str) -> None:
    """NaN, infinities, sets and secrets, in every container; no secret stands in the error."""
    hold, place = CONTAINERS[container]
    value, reason = FLAWS[flaw]
    with pytest.raises(ValidationException, match=reason) as raised:
        encode(hold(value), "input")
    assert list(raised.value.errors) == [f"input{place}"]
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    "keys",
    [
        {1: "a", "1": "b"},
        {True: 1, "true": 2},
        {1.5: 1, "1.5": 2},
        MappingProxyType({1: 1, "1": 2}),
    ],
    ids=str,
)
@pytest.mark.parametrize("hold", [lambda keys: keys, Plain, lambda keys: Open(score=keys), lambda keys: [[keys]]])
def test_keys_that_are_equal_as_text_are_refused(keys: Any, hold: Any) -> None:
    """One of the two would be lost."""
    with pytest.raises(ValidationException, match="same text"):
        encode(hold(keys))


@pytest.mark.parametrize("key", [NAN, None, SecretStr("hush"), frozenset({1})], ids=["nan", "none", "secret", "set"])
def test_keys_that_are_no_text_are_refused(key: Any) -> None:
    """A key is a text in JSON."""
    with pytest.raises(ValidationException):
        encode({key: 1})


def test_two_members_of_one_alias_are_refused() -> None:
    """The serialiser would write both."""

    class Twice(BaseModel):
        a: int = Field(serialization_alias="x")
        b: int = Field(serialization_alias="x")

    with pytest.raises(ValidationException, match="same text"):
        encode(Twice(a=1, b=2))


class Telling(BaseModel):
    """What a class's own serialisers write is its own business."""

    tags: set[str]
    key: SecretStr
    score: Annotated[float, PlainSerializer(lambda value: None, return_type=Union[float, None], when_used="json")]
    kept: SecretStr = Field(exclude=True)

    @field_serializer("tags", when_used="json")
    def _sorted(self, tags: set[str]) -> list[str]:
        return sorted(tags)

    @field_serializer("key", when_used="json")
    def _shown(self, key: SecretStr) -> str:
        return key.get_secret_value()


class Whole(BaseModel):
    tags: set[int]

    @model_serializer
    def _all(self) -> dict[str, Any]:
        return {"tags": sorted(self.tags)}


class Texts(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings")
    score: float


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (
            Telling(tags={"b", "a"}, key=SecretStr("k"), score=NAN, kept=SecretStr("hush")),
            {"tags": ["a", "b"], "key": "k", "score": None},
        ),
        ([Whole(tags={2, 1})], [{"tags": [1, 2]}]),
        (Texts(score=NAN), {"score": "NaN"}),
        (MappingProxyType({"a": UserDict(b=1)}), {"a": {"b": 1}}),
        ({"x": (each for each in [1, (2, 3)])}, {"x": [1, [2, 3]]}),
        (Plain(Checked(Open(score=[None]))), {"score": {"score": {"score": [None]}}}),
        ({Level: 1}.get(Level.BAD), None),
    ],
)
def test_what_serialisers_say_is_sent(value: Any, written: Any) -> None:
    """Custom serialisers, excluded members and NaN as text are the class's own choice."""
    assert json.loads(encode(value)) == written


def test_numpy_is_taken() -> None:
    """Scalars and arrays in any container; what they cannot say is refused as anywhere."""
    numpy = pytest.importorskip("numpy")
    scalars = [numpy.float32(1.5), numpy.int64(3), numpy.bool_(True), numpy.str_("a"), numpy.datetime64("2026-01-01")]
    said = [1.5, 3, True, "a", "2026-01-01"]
    for value in (scalars, tuple(scalars), deque(scalars)):
        assert json.loads(encode(value)) == said
    assert json.loads(encode({"a": numpy.array([[1, 2]]), "b": Plain(scalars), "c": Open(score=scalars)})) == {
        "a": [[1, 2]], "b": {"score": said}, "c": {"score": said},
    }  # fmt: skip
    assert json.loads(encode({numpy.int64(1): 1})) == {"1": 1}
    for flaw in (numpy.float32("nan"), numpy.float64("inf"), numpy.array([1.0, NAN]), numpy.datetime64("NaT", "s")):
        for hold in (lambda value: {"score": value}, Plain, lambda value: Open(score=value)):
            with pytest.raises(ValidationException) as raised:
                encode(hold(flaw), "input")
            assert next(iter(raised.value.errors)).startswith("input.score")


@pytest.mark.parametrize("hold", [lambda value: value, Plain, lambda value: Open(score=value)])
async def test_a_coalesced_input_fails_its_own_caller_only(hold: Any) -> None:
    """What cannot be sent is refused before it joins the others of its moment."""
    import asyncio

    pytest.importorskip("pydantic_monty")
    async with LoopaiClient.local(coalesce=True) as client:
        task = await client.create_task("t", "d", {}, {})
        await client.push_program(task.id, "def main(input):\n    return 1\n")
        each = await asyncio.gather(
            *(client.execute(task.id, hold(s)) for s in (1.0, NAN, 2.0)), return_exceptions=True
        )
    assert [type(one).__name__ for one in each] == ["ExecutionResult", "ValidationException", "ExecutionResult"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (deque[float], [NAN]),
        (Iterable[float], [1.0, NAN]),
        (Sequence[float], deque([NAN])),
        (tuple[float, ...], (NAN,)),
    ],
    ids=str,
)
def test_containers_of_numbers_hide_none(kind: Any, value: Any) -> None:
    """The serialiser writes null for NaN in them."""

    class Holder(BaseModel):
        x: kind

    with pytest.raises(ValidationException, match=r"input\.x\[\d\] .*nan is not a JSON number"):
        encode(Holder(x=value), "input")


@pytest.mark.parametrize("given", [NAN, {1}, [SecretStr("hush")], SecretStr("hush")], ids=str)
def test_what_an_iterator_in_a_model_gave_cannot_be_checked(given: Any) -> None:
    """The serialiser takes it before anybody can look; plain numbers and texts are seen to be what they are."""
    assert encode(Open(score=iter([1.5, "a", True]))) == b'{"score":[1.5,"a",true]}'
    with pytest.raises(ValidationException, match=r"input.score\[1\] .*pass a list"):
        encode(Open(score=iter([1.5, given])), "input")


class _Through:
    """A member and a class whose serialisers pass on what they are given."""

    class Wrapped(BaseModel):
        score: Any

        @model_serializer(mode="wrap")
        def _all(self, handler: Any) -> dict[str, Any]:
            return {"type": "wrapped", **handler(self)}

    class Field(BaseModel):
        score: Any

        @field_serializer("score", mode="wrap")
        def _score(self, value: Any, handler: Any) -> Any:
            return handler(value)

    class Plain(BaseModel):
        score: Annotated[Any, PlainSerializer(lambda value: value)]


@pytest.mark.parametrize("kind", [_Through.Wrapped, _Through.Field, _Through.Plain])
@pytest.mark.parametrize(("value", "place"), [(NAN, ""), ([NAN], "[0]"), (SecretStr("hush"), "")], ids=str)
def test_serialisers_that_pass_on_what_json_cannot_say(kind: Any, value: Any, place: str) -> None:
    """It was not them who said null or stars."""
    assert encode(kind(score=[1, None]))
    with pytest.raises(ValidationException) as raised:
        encode([kind(score=value)], "input")
    assert list(raised.value.errors) == [f"input[0].score{place}"]


Sorted = Annotated[set[str], PlainSerializer(sorted)]
SortedAlias = TypeAliasType("SortedAlias", Sorted)
SortedNew = NewType("SortedNew", SortedAlias)  # type: ignore[valid-newtype]  # what pydantic takes


class InDict(TypedDict):
    tags: Sorted


class InTuple(NamedTuple):
    tags: Sorted


@dataclasses.dataclass
class InDataclass:
    score: Annotated[float, Field(serialization_alias="points")]
    tags: Sorted = dataclasses.field(default_factory=set)
    others: Any = None


class Holding(BaseModel):
    named: SortedAlias = {"b", "a"}
    new: SortedNew = {"b", "a"}
    typed: InDict = {"tags": {"b", "a"}}
    listed: InTuple = InTuple({"b", "a"})


def test_serialisers_are_found_wherever_the_type_has_them() -> None:
    """In aliases, typed dictionaries, named tuples and dataclasses of Python's own."""
    tags = ["a", "b"]
    if NAMED_TUPLES_ARE_TYPED:
        assert json.loads(encode(Holding())) == {"named": tags, "new": tags, "typed": {"tags": tags}, "listed": [tags]}
    else:
        with pytest.raises(ValidationException, match=r"listed\[0\]"):
            encode(Holding())
    assert json.loads(encode(InDataclass(1.5, {"b", "a"}))) == {"points": 1.5, "tags": tags, "others": None}
    for flawed, place in ((InDataclass(NAN), "points"), (InDataclass(1, others=[{1}]), "others[0]")):
        with pytest.raises(ValidationException, match=re.escape(place)):
            encode(flawed)


class Unsaid(BaseModel):
    size: int
    tags: list[str] = []

    @field_serializer("size")
    def _size(self, size):  # type: ignore[no-untyped-def]  # as many write it
        return str(size)


class UnsaidWhole(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int

    @model_serializer(mode="wrap")
    def _all(self, handler):  # type: ignore[no-untyped-def]  # as many write it
        return {"type": "mail", **handler(self)}


@pytest.mark.parametrize("value", [Unsaid(size=1), UnsaidWhole(size=1), InDataclass(1.0)], ids=repr)
def test_a_serialiser_that_does_not_say_its_type_may_write_anything(value: Any) -> None:
    """A class whose serialisers have no return type describes what they write all the same."""
    validator_for = pytest.importorskip("jsonschema_rs").validator_for
    schema = schema_of(type(value), "input_schema", "serialization")
    assert list(validator_for(schema).iter_errors(json.loads(encode(value)))) == []


class Forbidding(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True)
    text: str = Field(validation_alias="body", serialization_alias="text_out")
    size: int = 0
    when: Annotated[str, Field(json_schema_extra={"readOnly": True})] = "now"

    @computed_field  # type: ignore[prop-decorator]  # as above
    @property
    def length(self) -> int:
        return len(self.text)


class Inner(BaseModel):
    inner: Forbidding


def test_a_class_describes_its_own_instances() -> None:
    """Sent is the serialisation form, and a row without computed, read-only and default members is as good."""
    pytest.importorskip("pydantic_monty")
    with SyncLoopaiClient.local() as client:
        for kind, hold in ((Forbidding, lambda value: value), (Inner, lambda value: {"inner": value})):
            task = client.create_task(f"t{kind.__name__}", "d", kind, Forbidding)
            client.push_program(task.id, "def main(input):\n    return 1\n")
            mail = Forbidding(body="x")  # type: ignore[call-arg]  # its validation alias
            client.execute(task.id, kind.model_validate({"inner": {"body": "x"}}) if kind is Inner else mail)
            client.execute(task.id, hold({"text_out": "x"}))
            with pytest.raises(ValidationException):
                client.execute(task.id, hold({"text": "x"}))
            assert "body" in task.output_schema["properties"]
            assert task.output_schema["required"] == ["body"]


def _pandas_values() -> dict[str, tuple[Any, Any]]:
    pandas, numpy = pytest.importorskip("pandas"), pytest.importorskip("numpy")
    fine = pandas.Timestamp("2024-01-01T00:00:00.000000001")
    return {
        "a time in nanoseconds": (fine, "2024-01-01T00:00:00.000000001"),
        "a duration in nanoseconds": (pandas.Timedelta(1, "ns"), "P0DT0H0M0.000000001S"),
        "a period": (pandas.Period("2024-01"), "2024-01"),
        "an index": (pandas.Index([1, 2]), [1, 2]),
        "an index of times": (pandas.DatetimeIndex(["2024-01-01"]), ["2024-01-01T00:00:00"]),
        "a categorical": (pandas.Categorical(["a", None]), ["a", None]),
        "a nullable array": (pandas.array([1, None], dtype="Int64"), [1, None]),
        "numpy's time": (numpy.datetime64("2024-01-01T00:00:00.000000001"), "2024-01-01T00:00:00.000000001"),
        "numpy's year": (numpy.datetime64("20000-01-01"), "20000-01-01"),
        "an array of times": (numpy.array(["2024-01-01"], dtype="datetime64[ns]"), ["2024-01-01T00:00:00"]),
        "a matrix of days": (numpy.array([["2024-01-01"]], dtype="datetime64[D]"), [["2024-01-01"]]),
        "an array of durations": (numpy.array([1], dtype="timedelta64[s]"), ["PT1S"]),
        "a time alone": (numpy.array("2024-01-01", dtype="datetime64[ns]"), "2024-01-01T00:00:00"),
        "a record": (numpy.array([(1, "x")], dtype=[("n", int), ("t", "U1")])[0], {"n": 1, "t": "x"}),
        "records": (numpy.array([(1, "x")], dtype=[("n", int), ("t", "U1")]), [{"n": 1, "t": "x"}]),
    }


def _arrow_values() -> dict[str, tuple[Any, Any]]:
    arrow = pytest.importorskip("pyarrow")
    return {
        "a scalar": (arrow.scalar(1), 1),
        "null": (arrow.scalar(None), None),
        "an array": (arrow.array([1, None]), [1, None]),
        "chunks": (arrow.chunked_array([[1], [2]]), [1, 2]),
        "a struct": (arrow.array([{"n": [1]}])[0], {"n": [1]}),
    }


@pytest.mark.parametrize("values", [_pandas_values, _arrow_values])
def test_values_of_libraries_of_data_are_sent_as_they_are(values: Any) -> None:
    """No digit of a time is lost, and no time is a bare number; in whatever container."""
    for name, (value, expected) in values().items():
        assert json.loads(encode(value)) == expected, name
        assert json.loads(encode(Plain(value))) == {"score": expected}, name
        assert json.loads(encode([{"a": value}])) == [{"a": expected}], name


@pytest.mark.parametrize("values", [_pandas_values, _arrow_values])
def test_a_model_that_would_lose_digits_of_a_time_is_refused(values: Any) -> None:
    """pydantic writes microseconds."""
    for name, (value, expected) in values().items():
        if name in {"a time in nanoseconds", "a duration in nanoseconds"}:
            with pytest.raises(ValidationException, match=r"score .*pass it as text"):
                encode(Open(score=value))
        else:
            assert json.loads(encode(Open(score=value))) == {"score": expected}, name


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: pytest.importorskip("numpy").array([1], dtype="timedelta64[ns]"), r"input\[0\] .*finer than micro"),
        (lambda: {"a": Decimal("sNaN")}, "input.a .*snan is not a JSON number"),
        (lambda: pytest.importorskip("pyarrow").table({"a": [1]}), "input .*is a DataFrame"),
        (lambda: pytest.importorskip("pyarrow").scalar(2**40, "timestamp[s]"), "input cannot be sent .*out of range"),
        (lambda: [pytest.importorskip("numpy").array([(NAN,)], dtype=[("n", float)])], r"input\[0\]\[0\].n .*nan"),
    ],
)
def test_values_of_libraries_that_json_cannot_say_are_named(make: Any, told: str) -> None:
    """By their place."""
    with pytest.raises(ValidationException, match=told):
        encode(make(), "input")
