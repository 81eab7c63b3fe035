"""What `loopai_batch` selects and writes: filter values of every type, and fields of every kind."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, models
from django.db.models.functions import Length
from django.test.utils import isolate_apps
from django.utils.timezone import make_aware
from inbox.models import Colour, Entry, Mail, Message, Odd, Prefixed

from loopai.batch.rows import OK, Outcome, Row
from loopai.contrib.django.batches.queryset import QuerysetRows
from loopai.contrib.django.batches.targets import Target, Unfit
from loopai.contrib.django.models import BatchRun
from loopai.exceptions import ConfigurationError
from loopai.testing import Certain, FakeLoopai

pytestmark = pytest.mark.django_db(transaction=True)

ENTRIES = ("--queryset", "inbox.Entry", "--map", "text=text")


def batch(*words: str, code: int = 0) -> str:
    said = io.StringIO()
    found, told = 0, ""
    try:
        call_command("loopai_batch", "spam", *words, "--progress", "none", stderr=said, stdout=said)
    except SystemExit as end:
        found = int(end.code or 0)
    except CommandError as error:
        found, told = error.returncode, str(error)
    assert found == code, said.getvalue() + told
    return said.getvalue() + told


def selected(*filters: str, excludes: tuple[str, ...] = (), named: str = "inbox.Entry:everything.all") -> list[str]:
    rows = QuerysetRows(named, filters, ["text=text"], "default", excludes=excludes)
    return [row.columns["text"] for row in rows.walk(rows.queryset, 10, None)]


@pytest.fixture
def lengths() -> Iterator[None]:
    from django.db.models import CharField

    with_length: Any = CharField
    with_length.register_lookup(Length)
    yield
    with_length._unregister_lookup(Length)


@pytest.fixture
def entries() -> None:
    numbers: list[Any] = [1, 2, 3, 12, "3", "12", "spam", None, True, {"deep": 4}]
    for place, n in enumerate(numbers):
        Entry.everything.create(
            text=f"e{place}", data={"n": n, "kind": "a,b" if place == 1 else "word"}, share=place / 2,
            price=Decimal(place), day=date(2020 + place, 1, 2), rank=place, hidden=place % 2 == 1,
            seen_at=datetime(2020 + place, 1, 2, 12, tzinfo=timezone.utc), tags=["t"] if place == 2 else [],
        )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # JSON: a number is a number, a quoted number and a word are texts.
        ("data__n=3", ["e2"]),
        ('data__n="3"', ["e4"]),
        ("data__n=spam", ["e6"]),
        ('data__n="spam"', ["e6"]),
        ("data__n=true", ["e8"]),
        ("data__n=null", ["e7"]),
        ("data__n__deep=4", ["e9"]),
        ("data__n__deep__gte=4", ["e9"]),
        ("data__n__in=3,12", ["e2", "e3"]),
        ('data__n__in="3",spam', ["e4", "e6"]),
        ("data__kind=a,b", ["e1"]),
        ("data__n__startswith=sp", ["e6"]),
        ("data__has_key=n", [f"e{n}" for n in range(10)]),
        ('tags=["t"]', ["e2"]),
        ("data__n__isnull=false", [f"e{n}" for n in range(10)]),
        # After transforms: the type of what is compared.
        ("day__year=2024", ["e4"]),
        ("day__year__gte=2028", ["e8", "e9"]),
        ("day__year__in=2024,2025", ["e4", "e5"]),
        ("seen_at__date=2024-01-02", ["e4"]),
        ("seen_at__gte=2028-01-02T00:00:00Z", ["e8", "e9"]),
        ("seen_at__gte=2028-01-01", ["e8", "e9"]),
        ("text__length__gte=3", []),
        ("text__length=2", [f"e{n}" for n in range(10)]),
        ("rank=3", ["e3"]),
        ("rank__range=3,5", ["e3", "e4", "e5"]),
        ("share__gte=4.5", ["e9"]),
        ("price__in=1,2.00", ["e1", "e2"]),
        ("hidden=true", ["e1", "e3", "e5", "e7", "e9"]),
        ("hidden__in=true,false", [f"e{n}" for n in range(10)]),
        ("rank__isnull=true", []),
        ("parent__isnull=true", [f"e{n}" for n in range(10)]),
        ("text__contains=7", ["e7"]),
        ("text__regex=^e[12]$", ["e1", "e2"]),
        ("rank__contains=3", ["e3"]),
    ],
)
def test_a_filter_s_value_has_the_type_of_what_it_is_compared_with(
    entries: None, lengths: None, text: str, wanted: list[str]
) -> None:
    """Whichever lookup and transform, in JSON and outside."""
    if connection.vendor == "mysql" and ("3" in text.partition("=")[2] or "__date" in text) and text[0] in "ds":
        pytest.skip('MariaDB compares 3 and "3" as equal, and knows no time zones unless they were loaded')
    assert selected(text) == wanted
    assert selected(excludes=(text,)) == [f"e{n}" for n in range(10) if f"e{n}" not in wanted] or "__n" in text


def test_a_number_in_json_is_compared_as_one(entries: None) -> None:
    """`__gte=3` takes the numbers from 3; what databases make of texts beside them is theirs."""
    Entry.everything.exclude(text__in=["e0", "e1", "e2", "e3"]).delete()
    assert selected("data__n__gte=3") == ["e2", "e3"]
    assert selected("data__n__lt=3") == ["e0", "e1"]


@pytest.mark.parametrize(
    "text",
    ["rank=many", "rank__range=1,x", "day__year=last", "share=half", "hidden=perhaps", "rank__isnull=3",
     "day=2024-13-01", 'data__n={"a"', "price=1,5", "text__nope=1", "nope=1", "parent=x"],
)  # fmt: skip
def test_a_value_that_cannot_be_read_is_refused(text: str) -> None:
    """Before anything is asked; by either flag, which is named."""
    with pytest.raises(ConfigurationError, match="--filter"):
        selected(text)
    with pytest.raises(ConfigurationError, match="--exclude"):
        selected(excludes=(text,))


def test_rows_are_excluded_and_managers_named(loopai_fake: FakeLoopai, entries: None) -> None:
    """`--exclude` beside `--filter`, `app.Model:manager.method` for one that is not the default."""
    loopai_fake.task("spam").returns("seen")
    batch(*ENTRIES, "--exclude", "rank=2", "--filter", "rank__lt=5", "--save-to", "title")
    assert sorted(Entry.everything.filter(title="seen").values_list("text", flat=True)) == ["e0", "e4"]
    batch("--queryset", "inbox.Entry:everything.all", "--map", "text=text", "--exclude", "rank=2", "--save-to", "title")
    assert Entry.everything.filter(title="seen").count() == 9
    assert "no manager 'nothing'" in batch(
        "--queryset", "inbox.Entry:nothing.all", "--map", "text=text", "--save-to", "title", code=2
    )
    assert BatchRun.objects.count() == 2


# What a field takes


def test_a_decimal_is_its_shortest_text(loopai_fake: FakeLoopai) -> None:
    """19.99 has two places, though no binary number is 19.99; one with three is still refused."""
    Entry.objects.bulk_create(Entry(text=f"e{n}") for n in range(3))
    prices = {"e0": 19.99, "e1": 1234567890.1, "e2": 0.125}
    loopai_fake.task("spam").computes(lambda entry: {"price": prices[entry["text"]]})
    batch(*ENTRIES, "--save-to", "price", code=1)
    found = dict(Entry.objects.values_list("text", "price"))
    assert found == {"e0": Decimal("19.99"), "e1": Decimal("1234567890.10"), "e2": None}


@pytest.mark.parametrize(("field", "value"), [("tags", []), ("data", {}), ("title", ""), ("data", ""), ("price", None)])
def test_what_a_column_takes_is_written(loopai_fake: FakeLoopai, field: str, value: Any) -> None:
    """That a form must not leave a field blank is no rule of the column's."""
    Entry.objects.create(text="e", tags=["old"], data={"old": 1}, title="old", price=3)
    loopai_fake.task("spam").returns({field: value})
    batch(*ENTRIES, "--save-to", field)
    assert getattr(Entry.objects.get(), field) == value


@pytest.mark.parametrize("value", ["nan", "NaN", "Infinity", "-inf", "1e999"])
@pytest.mark.parametrize("field", ["share", "price"])
def test_what_is_no_number_is_refused(loopai_fake: FakeLoopai, field: str, value: str) -> None:
    """Some databases keep NaN, some refuse it when the row is sent: it is the row's error everywhere."""
    Entry.objects.create(text="e")
    loopai_fake.task("spam").returns({field: value})
    batch(*ENTRIES, "--save-to", field, code=1)
    failure = BatchRun.objects.get().failures.get()
    assert (failure.code, "finite number" in failure.message) == ("unfit", True)


NOTHING: list[Any] = ["", [], {}]
UID = "00000000-0000-0000-0000-000000000001"
# Values that a field takes, with what is read back, and values that are none of its.
FIELDS: dict[str, tuple[list[tuple[Any, Any]], list[Any]]] = {
    "flag": ([(True, True), (False, False), (0, False), ("True", True), (None, None)], [*NOTHING, 2, "true?", "maybe"]),
    "uid": ([(UID, UUID(UID)), (None, None)], [*NOTHING, 1, True, "x", 1.5, [1]]),
    "lasts": (
        [("P1DT2H", timedelta(days=1, hours=2)), ("1 02:00:00", timedelta(days=1, hours=2)), (None, None)],
        [*NOTHING, True, 1.5, 3600, "soon", "P", "-", [1]],
    ),
    "at": ([("12:30", time(12, 30)), (None, None)], [*NOTHING, True, 5, "noon", "25:00"]),
    "day": ([("2024-01-01", date(2024, 1, 1)), (None, None)], [*NOTHING, True, 5, "2024-13-01", "2024-01-01T00:00Z"]),
    "seen_at": (
        [("2024-01-01T00:00:00Z", datetime(2024, 1, 1, tzinfo=timezone.utc)), (None, None)],
        [*NOTHING, True, 5, 1.5, "today"],
    ),
    "address": ([("10.0.0.1", "10.0.0.1"), ("::1", "::1"), (None, None)], [[], {}, True, 1, "10.0.0", "10.0.0.256"]),
    "link": ([("https://a.example/b", "https://a.example/b"), (None, None)], [[], {}, True, "a b", "javascript:x"]),
    "rank": ([(1, 1), ("2", 2), (3.0, 3), (None, None)], [*NOTHING, True, 1.5, "1.5", 2**63, "x"]),
    "share": ([(1, 1.0), ("1.5", 1.5), (None, None)], [*NOTHING, True, "nan", "x", 10**400]),
}


ONE_BY_ONE = ("--chunk-size", "1", "--max-in-flight", "1")
"""A single row is written with a simpler statement."""
TOGETHER = pytest.mark.parametrize("together", [(), ONE_BY_ONE], ids=["together", "one by one"])


@TOGETHER
@pytest.mark.parametrize("field", FIELDS)
def test_each_field_takes_what_is_its_own_and_nothing_else(
    loopai_fake: FakeLoopai, field: str, together: tuple[str, ...]
) -> None:
    """Nothing is bent: an empty text is no missing truth value, and 1 is no UUID. What does not fit is its row's."""
    takes, refuses = FIELDS[field]
    values = [*(value for value, _ in takes), *refuses]
    Entry.objects.bulk_create(Entry(text=str(number)) for number in range(len(values)))
    loopai_fake.task("spam").computes(lambda entry: {field: values[int(entry["text"])]})
    batch(*ENTRIES, "--save-to", field, *together, code=1)
    found = {entry.text: getattr(entry, field) for entry in Entry.objects.all()}
    assert [found[str(number)] for number in range(len(takes))] == [expected for _, expected in takes]
    failed = {failure.key: failure for failure in BatchRun.objects.get().failures.all()}
    numbers = {str(row.pk): int(row.text) for row in Entry.objects.all()}
    taken = [repr(value)[:40] for number, value in enumerate(values) if number not in {numbers[key] for key in failed}]
    assert taken == [repr(value)[:40] for value, _ in takes]
    assert {failure.code for failure in failed.values()} == {"unfit"}


ARRAYS: list[tuple[str, Any, Any]] = [
    ("numbers", [1, 2], [1, 2]),
    ("numbers", [], []),
    ("numbers", [1.5], "1.5 is not a whole number"),
    ("numbers", [True], "true is not a whole number"),
    ("numbers", 5, "does not fit"),
    ("texts", ["a"], ["a"]),
    ("texts", [["a"]], "is not a text"),
    ("texts", ["a\0"], "NUL"),
    ("texts", ["x" * 20], "Item 1"),
    ("nested", [[1], [2]], [[1], [2]]),
    ("nested", [[1.5]], "1.5 is not a whole number"),
    ("span", [1, 5], (1, 5)),
    ("span", [None, 5], (None, 5)),
    ("span", [], "two bounds"),
    ("span", [1], "two bounds"),
    ("span", [1, 2, 3], "two bounds"),
    ("span", [1.5, 3], "1.5 is not a whole number"),
    ("span", {"lower": 1}, "two bounds"),
    ("pairs", {"a": "b"}, {"a": "b"}),
    ("pairs", {"a": 1}, "not a string"),
    ("pairs", ["a"], "does not fit|JSON|dictionary"),
]


@pytest.mark.parametrize(("field", "value", "expected"), ARRAYS)
def test_arrays_and_ranges_take_what_is_their_own(field: str, value: Any, expected: Any) -> None:
    """Of PostgreSQL: what is in them is bent as little, and no list makes a run end. Errors are the row's."""
    postgres = pytest.importorskip("django.contrib.postgres.fields", reason="needs psycopg")
    with isolate_apps("inbox"):

        class Arrays(models.Model):
            numbers = postgres.ArrayField(models.IntegerField(), null=True)
            texts = postgres.ArrayField(models.CharField(max_length=10))
            nested = postgres.ArrayField(postgres.ArrayField(models.IntegerField()))
            span = postgres.IntegerRangeField(null=True)
            pairs = postgres.HStoreField(null=True)

            class Meta:
                app_label = "inbox"

        target = Target(field, Arrays, "default")
    outcome = Outcome(Row("1", None), OK, output={field: value})
    if isinstance(expected, str):
        with pytest.raises(Unfit, match=expected):
            target.value(outcome)
        return
    found = target.value(outcome)
    assert ((found.lower, found.upper) if field == "span" else found) == expected


@pytest.mark.parametrize("value", [True, 1.5, "1.5"])
def test_a_key_is_not_bent_into_another(loopai_fake: FakeLoopai, value: Any) -> None:
    """True is not the row 1, and 1.5 neither."""
    Entry.objects.create(pk=1, text="e")
    loopai_fake.task("spam").returns({"parent": value})
    batch(*ENTRIES, "--save-to", "parent", code=1)
    assert Entry.objects.get().parent_id is None


@pytest.mark.parametrize(
    ("more", "told"), [(("--task-version", "2"), "task version"), (("--filter", "rank=1"), "input")]
)
def test_an_output_is_not_resumed_by_another_run(
    loopai_fake: FakeLoopai, tmp_path: Path, more: tuple[str, ...], told: str
) -> None:
    """Of another version or other rows: refused with what differs."""
    Entry.objects.bulk_create(Entry(text=f"e{n}", rank=n) for n in range(4))
    task = loopai_fake.task("spam")
    task.fails("no")
    words = (*ENTRIES, "--output", str(tmp_path / "out.jsonl"))
    batch(*words, code=1)
    sent = len(task.inputs)
    assert told in batch(*words, "--retry-failed", *more, code=2)
    assert len(task.inputs) == sent


def test_a_translated_field_is_refused_with_its_columns() -> None:
    """modeltranslation reads another column than the one of that name."""

    class Original:
        name = "title"

    field = Entry._meta.get_field("text")
    field.translated_field = Original()
    try:
        with pytest.raises(ConfigurationError, match=r"title is translated: name one of its columns \(text\)"):
            Target("title", Entry, "default")
    finally:
        del field.translated_field


def test_a_proxy_is_its_concrete_table(loopai_fake: FakeLoopai) -> None:
    """With its managers, inherited or its own."""
    Entry.everything.bulk_create(Entry(text=f"e{n}", hidden=n == 1) for n in range(3))
    loopai_fake.task("spam").returns({"title": "seen"})
    batch("--queryset", "inbox.ShownEntry", "--map", "text=text", "--save-to", "title")
    assert dict(Entry.everything.values_list("text", "title")) == {"e0": "seen", "e1": "x", "e2": "seen"}
    batch("--queryset", "inbox.ShownEntry:everything.all", "--map", "text=text", "--save-to", "title")
    assert set(Entry.everything.values_list("title", flat=True)) == {"seen"}


def test_keys_that_their_field_converts(loopai_fake: FakeLoopai, tmp_path: Path) -> None:
    """Paged, saved, resumed, repeated, and named in an output as Python has them."""
    Prefixed.objects.bulk_create(Prefixed(text=f"mail {n}") for n in range(25))
    task = loopai_fake.task("spam")
    words = ("--queryset", "inbox.Prefixed", "--map", "text=text", "--chunk-size", "4")
    task.computes(lambda row: {"label": "x" * 99 if row["text"] == "mail 7" else row["text"]})
    batch(*words, "--save-to", "label", code=1)
    assert sum(row.text == row.label for row in Prefixed.objects.all()) == 24
    task.computes(lambda row: {"label": row["text"]})
    assert "1 ok" in batch(*words, "--save-to", "label", "--retry-failed")
    assert all(row.text == row.label for row in Prefixed.objects.all())
    output = tmp_path / "out.jsonl"
    batch(*words, "--output", str(output))
    first = json.loads(output.read_text().splitlines()[0])
    assert first["id"] == Prefixed.objects.order_by("pk")[0].pk
    assert first["id"].startswith("entry_")


def test_double_underscores_follow_relations_and_json(loopai_fake: FakeLoopai) -> None:
    """`message__text` is `message.text`, `facts__a__b` is `facts.a.b`; what is not there is that row's error."""
    message = Message.objects.create(text="hello")
    Mail.objects.create(subject="one", message=message, facts={"a": {"b": 7}})
    Mail.objects.create(subject="two", message=message, facts={"a": 7})
    task = loopai_fake.task("spam")
    task.returns({"label": "ham"})
    words = ("--queryset", "inbox.Mail", "--save-to", "label")
    batch(*words, "--map", "text=message__text", "--map", "n=facts__a__b", code=1)
    assert task.inputs == [{"text": "hello", "n": 7}]
    batch(*words, "--map", "text=message.text", "--map", "n=facts.a.b", code=1)
    assert task.inputs[1:] == task.inputs[:1]


# From code


def test_call_command_takes_python_values(loopai_fake: FakeLoopai) -> None:
    """Lists, one text for a list of one, and a QuerySet, which is known again by its SQL."""
    Entry.everything.bulk_create(Entry(text=f"e{n}", rank=n) for n in range(6))
    task = loopai_fake.task("spam")
    task.returns({"title": "seen"})
    options: dict[str, Any] = {"map": ["text=text"], "save_to": "title", "progress": "none", "stderr": io.StringIO()}
    call_command("loopai_batch", "spam", queryset=Entry.everything.filter(rank__gte=3), **options)
    assert sorted(entry["text"] for entry in task.inputs) == ["e3", "e4", "e5"]
    call_command("loopai_batch", "spam", queryset=Entry.everything.filter(rank__gte=3), resume=True, **options)
    assert len(task.inputs) == 3
    call_command("loopai_batch", "spam", queryset=Entry.everything.filter(rank__lt=1), **options)
    assert [entry["text"] for entry in task.inputs[3:]] == ["e0"]
    call_command("loopai_batch", "spam", queryset=Entry.everything.none(), **options)


@pytest.mark.parametrize(
    ("queryset", "more", "told"),
    [
        (lambda: Entry.everything.all()[:3], {}, "is sliced"),
        (Entry.everything.all, {"engine": "celery"}, "takes --queryset by name"),
    ],
)
def test_a_queryset_that_cannot_be_run_is_refused(
    loopai_fake: FakeLoopai, queryset: Any, more: dict[str, Any], told: str
) -> None:
    """Sliced, or for workers, which cannot find it."""
    loopai_fake.task("spam").returns({"title": "seen"})
    with pytest.raises(CommandError, match=told) as caught:
        call_command("loopai_batch", "spam", queryset=queryset(), map=["text=text"], save_to=["title"], **more)
    assert caught.value.returncode == 2


def test_call_command_never_ends_the_process(loopai_fake: FakeLoopai) -> None:
    """A worker or a test that calls it survives: the exit code is in the error."""
    Entry.objects.create(text="e")
    words = ("loopai_batch", "spam", *ENTRIES, "--save-to", "title", "--progress", "none")
    loopai_fake.task("spam").returns({"title": "x" * 99})
    with pytest.raises(CommandError, match="rows failed") as caught:
        call_command(*words, stderr=io.StringIO())
    assert caught.value.returncode == 1
    loopai_fake.task("spam").returns({"title": "ham"})
    call_command(*words, "--retry-failed", stderr=io.StringIO())


def test_a_mapping_that_no_input_fits_is_refused(loopai_fake: FakeLoopai) -> None:
    """Exit code 2 before the first row, instead of as many failed rows as there are."""
    Entry.objects.create(text="e")
    task = loopai_fake.task("spam")
    task.record["input_schema"] = {"type": "object", "properties": {"body": {"type": "string"}}}
    told = batch(*ENTRIES, "--save-to", "title", code=2)
    assert "--map makes text, and the task's input has body" in told
    assert task.inputs == []
    assert BatchRun.objects.count() == 0


def test_doubtful_outputs_are_not_saved(loopai_fake: FakeLoopai) -> None:
    """They are failures of their own kind, with the output; how certain the others are can be saved."""
    loopai_fake.task("spam").computes(lambda given: Certain("spam", 0.95 if given["text"] == "sure" else 0.55))
    for text in ("sure", "unsure"):
        Entry.everything.create(text=text, data={}, price=1, day=date(2020, 1, 2), rank=1)
    batch(*ENTRIES, "--save-to", "share=confidence", "--min-confidence", "0.8", code=1)
    assert [entry.share for entry in Entry.everything.order_by("pk")] == [0.95, None]
    failure = BatchRun.objects.get().failures.get()
    assert (failure.code, failure.message) == ("doubtful", 'confidence 0.550: "spam"')


ODD = ("--queryset", "inbox.Odd", "--map", "text=text")


def odd(count: int = 6, **values: Any) -> None:
    Odd.objects.bulk_create(Odd(text=str(number), **values) for number in range(count))


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def reasons() -> dict[str, str]:
    """Why rows of the newest run failed, by their keys."""
    run: Any = BatchRun.objects.latest("pk")
    return {failure.key: failure.message for failure in run.failures.all()}


@pytest.mark.parametrize("field", ["secret", "colour"])
def test_a_value_that_its_field_cannot_read_is_its_rows_error(loopai_fake: FakeLoopai, field: str) -> None:
    """Whatever the field raises: one that cannot be decrypted ends no run."""
    odd(secret="x", colour=Colour.RED)
    pk = Odd.objects.order_by("pk")[2].pk
    execute(f"UPDATE inbox_odd SET {field} = 'junk' WHERE id = {pk}")
    loopai_fake.task("spam").returns({"label": "ham"})
    batch("--queryset", "inbox.Odd", "--map", "text=text", "--map", f"it={field}", "--save-to", "label", code=1)
    assert reasons().keys() == {str(pk)}
    assert "cannot be read" in reasons()[str(pk)]
    assert Odd.objects.filter(label="ham").count() == 5


def test_a_value_that_its_field_cannot_write_is_its_rows_error(loopai_fake: FakeLoopai) -> None:
    """As one that cannot be encrypted."""
    odd()
    loopai_fake.task("spam").computes(lambda row: {"secret": "refused" if row["text"] == "3" else "fine"})
    batch(*ODD, "--save-to", "secret", code=1)
    assert list(reasons().values()) == ["the field refused the row: no key"]
    assert Odd.objects.filter(secret="fine").count() == 5


class Elsewhere(Exception):
    """What no value is the cause of."""


def test_what_is_raised_once_is_no_rows_error(loopai_fake: FakeLoopai, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a time limit: it ends the run, and no row is blamed."""
    odd()
    loopai_fake.task("spam").returns({"secret": "fine"})
    field, raised = Odd._meta.get_field("secret"), iter([Elsewhere("time is up")])

    def prepare(value: Any) -> Any:
        for error in raised:
            raise error
        return value

    monkeypatch.setattr(field, "get_prep_value", prepare)
    with pytest.raises(Elsewhere):
        batch(*ODD, "--save-to", "secret")
    run: Any = BatchRun.objects.get()
    assert (run.state, run.errors, "time is up" in run.error) == ("interrupted", 0, True)


def test_a_filter_s_value_is_converted_by_its_field(loopai_fake: FakeLoopai) -> None:
    """By `to_python` of text fields, too; what it does not take is refused."""
    odd(2, colour=Colour.RED)
    odd(3, colour=Colour.BLUE)
    loopai_fake.task("spam").returns({"label": "ham"})
    batch(*ODD, "--filter", "colour=red", "--save-to", "label")
    assert BatchRun.objects.latest("pk").ok == 2
    batch(*ODD, "--filter", "colour__in=red,blue", "--save-to", "label")
    assert BatchRun.objects.latest("pk").ok == 5
    assert "colour=green" in batch(*ODD, "--filter", "colour=green", "--save-to", "label", code=2)


@TOGETHER
def test_a_field_is_written_by_its_own_expression(loopai_fake: FakeLoopai, together: tuple[str, ...]) -> None:
    """As `save()` writes it: what encrypts in the database is not passed over."""
    odd()
    loopai_fake.task("spam").returns({"upper": "abc", "label": "ham"})
    batch(*ODD, "--save-to", "upper", "--save-to", "label", *together)
    assert set(Odd.objects.values_list("upper", "label")) == {("ABC", "ham")}


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite's columns have no length")
@TOGETHER
def test_what_is_too_long_for_its_column_is_not_cut_off(loopai_fake: FakeLoopai, together: tuple[str, ...]) -> None:
    """Where no validator measures it: PostgreSQL cuts off what is cast to a type with a length."""
    odd()
    loopai_fake.task("spam").computes(lambda row: {"long": "abcdefg" if row["text"] == "3" else "abcdef"})
    batch(*ODD, "--save-to", "long", *together, code=1)
    assert sorted(Odd.objects.exclude(long=None).values_list("long", flat=True)) == ["abcdefabcdef"] * 5


KINDS: dict[str, tuple[list[tuple[Any, Any]], list[Any]]] = {
    "whole": ([(20.0, Decimal(20)), (1e3, Decimal(1000)), ("7", Decimal(7)), (None, None)], [1.5, True, "x"]),
    "file": ([("a.txt", "a.txt"), ("", "")], [{"a": 1}, ["a"], 5, True]),
    "blob": ([("aGVsbG8=", b"hello"), (None, None)], ["hello world!", 5, True, {"a": 1}, ["a"]]),
    "judged": ([("yes", "yes"), ("", ""), (None, None)], ["maybe", 1, ["yes"]]),
    "judged_at": ([("2024-01-01T00:00:00Z", datetime(2024, 1, 1, tzinfo=timezone.utc))], ["x", 5]),
}


@TOGETHER
@pytest.mark.parametrize("field", KINDS)
def test_more_kinds_of_fields_take_what_is_their_own(
    loopai_fake: FakeLoopai, field: str, together: tuple[str, ...]
) -> None:
    """No text is made of an object, and what is in no form is checked against its choices."""
    takes, refuses = KINDS[field]
    values = [*(value for value, _ in takes), *refuses]
    odd(len(values))
    loopai_fake.task("spam").computes(lambda row: {field: values[int(row["text"])]})
    batch(*ODD, "--save-to", field, *together, code=1)
    found = {row.text: getattr(row, field) for row in Odd.objects.all()}
    kept = [found[str(number)] for number in range(len(takes))]
    assert [bytes(value) if isinstance(value, memoryview) else value for value in kept] == [value for _, value in takes]
    failed = {Odd.objects.get(pk=key).text: message for key, message in reasons().items()}
    assert failed.keys() == {str(number) for number in range(len(takes), len(values))}
    assert all("%(" not in message and "'int'" not in message for message in failed.values())


def test_a_time_without_a_zone_is_the_site_s(loopai_fake: FakeLoopai) -> None:
    """As a form takes it, without a warning."""
    odd(1)
    loopai_fake.task("spam").returns({"judged_at": "2024-01-01T10:00:00"})
    batch(*ODD, "--save-to", "judged_at")
    assert Odd.objects.get().judged_at == make_aware(datetime(2024, 1, 1, 10))  # noqa: DTZ001  # it has none


@pytest.mark.parametrize("path", ["about", "about.text"])
def test_a_generic_key_is_refused_with_what_it_is_made_of(loopai_fake: FakeLoopai, path: str) -> None:
    """Its rows are of any model: no column can be read."""
    odd(1)
    loopai_fake.task("spam").returns({"label": "ham"})
    told = batch("--queryset", "inbox.Odd", "--map", f"text={path}", "--save-to", "label", code=2)
    assert "kind, number" in told


def test_a_query_that_the_database_refuses_is_a_wrong_filter(loopai_fake: FakeLoopai) -> None:
    """Exit code 2, and no word of a run that could be resumed."""
    odd(2, body="x")
    loopai_fake.task("spam").returns({"label": "ham"})
    told = batch(*ODD, "--filter", "body__regex=(", "--save-to", "label", code=2)
    assert "cannot be selected" in told
    assert "--resume" not in told
    assert not BatchRun.objects.exists()


def test_values_that_are_large_together_are_written_in_parts(loopai_fake: FakeLoopai) -> None:
    """MariaDB takes statements of 16 MB by default, and drops the connection of a larger one."""
    odd(45)
    loopai_fake.task("spam").computes(lambda row: {"body": row["text"] + "x" * 400_000})
    batch(*ODD, "--save-to", "body")
    assert all(body.rstrip("x") == text for text, body in Odd.objects.values_list("text", "body"))
    assert BatchRun.objects.get().ok == 45


TRIGGERS = {
    "postgresql": [
        "RAISE EXCEPTION 'no'",
        "RAISE EXCEPTION 'no' USING ERRCODE = '45000'",
        "RAISE EXCEPTION 'no' USING ERRCODE = 'U0001'",
        "PERFORM 1 / 0",
        "CASE WHEN false THEN NULL; END CASE",
    ],
    "mysql": [
        "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'",
        "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no', MYSQL_ERRNO = 31001",
        "SET NEW.number = 1 / 0",
    ],
    "sqlite": ["SELECT RAISE(ABORT, 'no')", "SELECT RAISE(FAIL, 'no')"],
}


@pytest.fixture
def trigger() -> Iterator[Callable[[str], None]]:
    """Makes a trigger that does something where the label is `boom`."""
    kind = connection.vendor

    def make(action: str) -> None:
        if kind == "postgresql":
            execute(
                f"CREATE FUNCTION boom() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF NEW.label = 'boom' THEN {action}; END IF; RETURN NEW; END $$"
            )
            execute("CREATE TRIGGER boom BEFORE UPDATE ON inbox_odd FOR EACH ROW EXECUTE FUNCTION boom()")
        elif kind == "mysql":
            execute(
                f"CREATE TRIGGER boom BEFORE UPDATE ON inbox_odd FOR EACH ROW BEGIN "
                f"IF NEW.label = 'boom' THEN {action}; END IF; END"
            )
        else:
            execute(f"CREATE TRIGGER boom BEFORE UPDATE ON inbox_odd WHEN NEW.label = 'boom' BEGIN {action}; END")

    yield make
    execute(f"DROP TRIGGER boom{' ON inbox_odd' if kind == 'postgresql' else ''}")
    if kind == "postgresql":
        execute("DROP FUNCTION boom()")


@pytest.mark.parametrize("action", TRIGGERS.get(connection.vendor, []))
def test_what_a_trigger_raises_is_its_rows_error(loopai_fake: FakeLoopai, trigger: Any, action: str) -> None:
    """Under whatever code: its neighbours are written."""
    odd()
    trigger(action)
    loopai_fake.task("spam").computes(lambda row: {"label": "boom" if row["text"] == "3" else "ham"})
    batch(*ODD, "--save-to", "label", code=1)
    assert Odd.objects.filter(label="ham").count() == 5
    (told,) = reasons().values()
    assert told.startswith("the database refused the row: ")
    assert not told.startswith("the database refused the row: (")


@pytest.mark.skipif(connection.vendor != "postgresql", reason="an index of PostgreSQL has a largest row")
def test_what_is_too_large_for_an_index_is_its_rows_error(loopai_fake: FakeLoopai) -> None:
    """A text of any length is valid, until it is in an index."""
    odd()
    execute("CREATE INDEX too_small ON inbox_odd (body)")
    text = "".join(random.Random(1).choices("0123456789abcdef", k=40_000))
    loopai_fake.task("spam").computes(lambda row: {"body": text if row["text"] == "3" else "short"})
    try:
        batch(*ODD, "--save-to", "body", code=1)
    finally:
        execute("DROP INDEX too_small")
    assert Odd.objects.filter(body="short").count() == 5
    assert len(reasons()) == 1
