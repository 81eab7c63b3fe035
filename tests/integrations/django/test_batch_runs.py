"""What the database knows of a run: leases, marks, counts, failures, parts, and what people may ask of it."""

from __future__ import annotations

import random
import threading
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Optional
from uuid import UUID, uuid4

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from inbox.models import Diary, Letter, Message, Note, Reminder

from loopai.contrib.django import keys
from loopai.contrib.django.batches.recording import LeaseLost, record_chunk, record_retried
from loopai.contrib.django.models import BatchFailure, BatchPart, BatchRun
from loopai.contrib.django.ranges import advanced
from loopai.contrib.django.signals import batch_requested
from loopai.exceptions import ConfigurationError

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2025, 11, 3, 12, tzinfo=timezone.utc)
LEASE = 30.0
State, Mode = BatchRun.State, BatchRun.Mode


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.fixture
def run() -> BatchRun:
    return BatchRun.objects.create(task="spam", source="inbox.Message", fingerprint="f" * 64, total=1000)


@pytest.fixture
def owned(run: BatchRun) -> BatchRun:
    assert run.acquire("me", NOON, LEASE)
    return run


def again(run: BatchRun) -> BatchRun:
    """The run as another process reads it."""
    return BatchRun.objects.get(pk=run.pk)


def at_once(work: Callable[[int], Any], number: int) -> list[Any]:
    """Does the work in as many threads, each with a connection of its own."""
    found: list[Any] = []
    start = threading.Barrier(number)

    def one(turn: int) -> None:
        try:
            start.wait()
            found.append(work(turn))
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(turn,)) for turn in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == number
    return found


def test_the_migrations_are_the_models() -> None:
    """On every Django: no change of a model is without its migration."""
    call_command("makemigrations", "loopai", check=True, dry_run=True, verbosity=0)


# Leases


def test_of_several_that_want_a_run_one_gets_it(run: BatchRun) -> None:
    """Eight processes start at the same moment: one is the owner, seven are told no."""
    got = at_once(lambda turn: again(run).acquire(f"process {turn}", NOON, LEASE), 8)
    assert sorted(got) == [False] * 7 + [True]
    assert again(run).state == State.RUNNING


def test_a_lease_that_holds_keeps_others_out_and_one_that_ran_out_does_not(owned: BatchRun) -> None:
    """A killed owner blocks the run no longer than its lease; then it has lost it."""
    assert owned.is_live(NOON)
    assert not again(owned).acquire("another", after(LEASE), LEASE)
    assert again(owned).is_stalled(after(LEASE + 1))
    assert again(owned).acquire("another", after(LEASE + 1), LEASE)
    assert not owned.beat("me", after(LEASE + 2), LEASE)
    assert not owned.end("me", State.FINISHED, after(LEASE + 2))
    assert again(owned).owner == "another"


def test_a_heartbeat_prolongs_the_lease_and_counts_the_time(owned: BatchRun) -> None:
    """Time at work is what passed between beats, without the pause before a resume."""
    assert owned.beat("me", after(20), LEASE)
    assert not again(owned).acquire("another", after(45), LEASE)
    assert owned.end("me", State.INTERRUPTED, after(25))
    assert owned.request_resume(after(1000))
    assert owned.acquire("me again", after(2000), LEASE)
    assert owned.end("me again", State.FINISHED, after(2010))
    run = again(owned)
    assert (run.active_seconds, run.started_at, run.finished_at) == (35.0, NOON, after(2010))
    assert (run.owner, run.lease_until, run.state) == ("", None, State.FINISHED)


def test_an_owner_may_acquire_again(owned: BatchRun) -> None:
    """A process that starts its own run anew need not wait for its own lease."""
    assert owned.acquire("me", after(1), LEASE)


def test_a_deleted_run_is_nobody_s(owned: BatchRun) -> None:
    """An owner learns of the deletion by its next beat or chunk."""
    again(owned).delete()
    assert not owned.beat("me", after(1), LEASE)
    with pytest.raises(LeaseLost):
        record_chunk(owned, None, "10", ok=10, by="me")


# Chunks


def test_a_chunk_advances_the_mark_and_the_counts(owned: BatchRun) -> None:
    """Counts add up, and the mark is the last key of what is finished without a gap."""
    record_chunk(owned, None, "100", ok=97, failures=[BatchFailure.of("7", "program", "no")], skipped=2, by="me")
    record_chunk(owned, "100", "200", ok=100, by="me")
    run = again(owned)
    assert (run.mark, run.ok, run.errors, run.skipped, run.done) == ("200", 197, 1, 2, 200)
    assert (run.snapshot().fraction, run.finished_ranges) == (0.2, [])
    assert [(f.key, f.code, f.message) for f in run.failures.all()] == [("7", "program", "no")]


def test_chunks_may_end_in_any_order(owned: BatchRun) -> None:
    """Whatever ends beyond a gap is kept beside the mark, and joins it when the gap closes."""
    record_chunk(owned, "b", "c", ok=1, by="me")
    record_chunk(owned, "d", "e", ok=1, by="me")
    assert (owned.mark, owned.finished_ranges) == (None, [["b", "c"], ["d", "e"]])
    record_chunk(owned, "c", "d", ok=1, by="me")
    assert (owned.mark, again(owned).finished_ranges) == (None, [["b", "e"]])
    record_chunk(owned, None, "b", ok=1, by="me")
    assert (again(owned).mark, again(owned).finished_ranges) == ("e", [])


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_chunks_ends_at_the_last_key(seed: int) -> None:
    """However 60 chunks end, their ranges are at most as many as there are gaps, and all become one mark."""
    chance = random.Random(seed)
    bounds: list[Optional[str]] = [None, *[str(uuid4()) for _ in range(60)]]
    chunks = list(zip(bounds, bounds[1:]))
    chance.shuffle(chunks)
    mark: Optional[str] = None
    ranges: list[Any] = []
    open_starts = set(bounds[:-1])
    for start, end in chunks:
        assert end is not None
        mark, ranges = advanced(mark, ranges, start, end)
        open_starts.discard(start)
        assert len(ranges) <= len(open_starts)
    assert (mark, ranges) == (bounds[-1], [])


def test_a_chunk_and_its_rows_are_one_transaction(owned: BatchRun) -> None:
    """An owner that lost its lease writes neither: `LeaseLost` undoes the rows with the checkpoint."""
    message = Message.objects.create(text="a prize")
    again(owned).acquire("another", after(LEASE + 1), LEASE)

    def write(owner: str) -> None:
        with transaction.atomic():
            Message.objects.filter(pk=message.pk).update(label="spam")
            record_chunk(owned, None, str(message.pk), ok=1, by=owner)

    with pytest.raises(LeaseLost, match="is not me now"):
        write("me")
    message.refresh_from_db()
    assert (message.label, again(owned).ok) == ("", 0)
    write("another")
    message.refresh_from_db()
    assert (message.label, again(owned).ok) == ("spam", 1)


def test_chunks_recorded_at_once_are_all_counted(owned: BatchRun) -> None:
    """Eight workers record chunks of one run: no count and no range is lost."""
    parts = [owned.parts.create(run=owned, after=str(turn) if turn else None, upto=str(turn + 1)) for turn in range(16)]
    for part in parts:
        assert part.acquire("worker", NOON, LEASE)

    def record(turn: int) -> None:
        for part in parts[turn::8]:
            failures, mine = [BatchFailure.of(part.upto, "program", "no")], again(owned)
            with transaction.atomic():
                record_chunk(mine, part.after, part.upto, ok=9, failures=failures, by=part)

    at_once(record, 8)
    run = again(owned)
    assert (run.mark, run.finished_ranges, run.ok, run.errors) == ("16", [], 144, 16)
    assert (run.failures.count(), run.parts.count()) == (16, 0)


def test_what_a_failure_says_fits_every_database(owned: BatchRun) -> None:
    """NUL, half surrogate pairs, texts of any length, and keys that a collation takes for one."""
    keys_of = ["a", "A", "a ", "x" * 5000, "nul \0", "half \ud800", "\N{PILE OF POO}"]
    failures = [BatchFailure.of(key, "program", f"\0 \ud800 {key}" * 3) for key in keys_of]
    record_chunk(owned, None, "9", failures=failures, by="me")
    kept = {failure.key for failure in owned.failures.all()}
    assert len(kept) == 7
    assert {"a", "A", "a ", "x" * 5000, "\N{PILE OF POO}"} <= kept
    assert max(len(failure.message) for failure in owned.failures.all()) <= 2000


# What remains


@pytest.mark.parametrize("kind", ["integer", "uuid", "string"])
def test_remaining_leaves_out_what_is_finished(owned: BatchRun, kind: str) -> None:
    """By the database's own order of keys: before the mark, in finished ranges, and beyond the upper key."""
    model: Any = {"integer": Message, "uuid": Letter, "string": Note}[kind]
    slugs = ["Zebra", "apple", "äpfel", "b", "B2", "0", "_", "a b", "é", "z"]
    for turn in range(10):
        model.objects.create(text=str(turn), **({"slug": slugs[turn]} if kind == "string" else {}))
    ordered = list(model.objects.order_by("pk").values_list("pk", flat=True))
    owned.upper_key = keys.to_text(model, ordered[8])
    owned.save()
    assert list(owned.remaining(model.objects.order_by("pk")).values_list("pk", flat=True)) == ordered[:9]
    texts = [keys.to_text(model, key) for key in ordered]
    record_chunk(owned, None, texts[1], ok=2, by="me")
    record_chunk(owned, texts[3], texts[5], ok=2, by="me")
    left = again(owned).remaining(model.objects.order_by("pk")).values_list("pk", flat=True)
    assert list(left) == [ordered[2], ordered[3], ordered[6], ordered[7], ordered[8]]
    assert [keys.from_text(model, text) for text in texts] == ordered


def test_what_rows_cannot_be_paged_by_is_refused() -> None:
    """A primary key of dates is named; one inherited from another table is that table's."""
    with pytest.raises(ConfigurationError, match=r"inbox\.Diary: rows are paged by a primary key of integers, UUIDs"):
        keys.check(Diary)
    keys.check(Reminder)
    assert keys.from_text(Letter, "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60") == UUID(
        int=0x7F1C2A345B6D4E7F8A901B2C3D4E5F60
    )


# Failed rows, again


def test_retried_rows_change_sides(owned: BatchRun) -> None:
    """What is right now, gone, or failed again: the counts follow, and only what failed again is kept."""
    failures = [BatchFailure.of(str(key), "program", "no") for key in range(4)]
    record_chunk(owned, None, "100", ok=96, failures=failures, by="me")
    record_retried(owned, ok=["0", "1"], skipped=["2"], failures=[BatchFailure.of("3", "refused", "still")], by="me")
    run = again(owned)
    assert (run.ok, run.errors, run.skipped) == (98, 1, 1)
    assert [(f.key, f.code, f.message) for f in run.failures.all()] == [("3", "refused", "still")]
    record_retried(owned, ok=["0", "1"], by="me")  # a repetition changes nothing
    assert (again(owned).ok, again(owned).errors) == (98, 1)


# Parts


def test_a_part_is_taken_by_one_worker_and_taken_up_by_another(owned: BatchRun) -> None:
    """A killed worker's part is free when its lease runs out; what the first wrote late is undone."""
    part = owned.parts.create(run=owned, upto="100")
    same = BatchPart.objects.get(pk=part.pk)
    assert at_once(lambda turn: BatchPart.objects.get(pk=part.pk).acquire(f"{turn}", NOON, LEASE), 4).count(True) == 1
    BatchPart.objects.update(owner="first", lease_until=after(LEASE))
    part.refresh_from_db()
    assert part.beat(NOON, LEASE)
    assert not owned.parts.free(after(LEASE)).exists()
    assert list(owned.parts.free(after(LEASE + 1))) == [same]
    assert same.acquire("second", after(LEASE + 1), LEASE)
    assert not part.beat(after(LEASE + 2), LEASE)
    with pytest.raises(LeaseLost, match="taken by another worker"):
        record_chunk(owned, None, "100", ok=100, by=part)
    assert again(owned).ok == 0
    record_chunk(owned, None, "100", ok=100, by=same)
    with pytest.raises(LeaseLost):
        record_chunk(owned, None, "100", ok=100, by=same)
    assert (again(owned).ok, again(owned).mark) == (100, "100")


# What people ask for


@pytest.fixture
def requested() -> Any:
    heard: list[tuple[int, str]] = []

    def receiver(run: BatchRun, **_: Any) -> None:
        heard.append((run.pk, run.mode))

    batch_requested.connect(receiver)
    yield heard
    batch_requested.disconnect(receiver)


def test_cancel_tells_a_live_owner_and_ends_what_nobody_is_at(owned: BatchRun, requested: Any) -> None:
    """The owner learns it with its next beat; a pending or killed run is cancelled on the spot."""
    assert again(owned).request_cancel(NOON)
    assert owned.beat("me", after(1), LEASE)
    assert owned.cancel_requested
    assert owned.end("me", State.CANCELLED, after(2))
    assert not owned.request_cancel(after(3))
    assert owned.request_resume(after(4))
    assert (owned.state, owned.mode, owned.cancel_requested) == (State.PENDING, Mode.RESUME, False)
    assert owned.request_cancel(after(5))
    assert again(owned).state == State.CANCELLED
    assert owned.request_resume(after(6))
    assert owned.acquire("me", after(7), LEASE)
    assert again(owned).request_cancel(after(7 + LEASE + 1))
    assert again(owned).state == State.CANCELLED
    assert not owned.beat("me", after(7 + LEASE + 2), LEASE)
    assert requested == [(owned.pk, "resume")] * 2


def test_resume_is_for_runs_that_ended_early(owned: BatchRun, requested: Any) -> None:
    """Not for one that runs or is finished; engines hear of it after the commit only."""
    assert not owned.request_resume(NOON)
    with transaction.atomic():
        assert owned.request_resume(after(LEASE + 1))
        transaction.set_rollback(True)
    assert again(owned).state == State.RUNNING
    assert requested == []
    for state in (State.CANCELLED, State.STOPPED, State.INTERRUPTED):
        BatchRun.objects.update(state=state, error="100 of 100 rows failed")
        assert owned.request_resume(NOON)
        assert (again(owned).state, again(owned).error) == (State.PENDING, "")
    BatchRun.objects.update(state=State.FINISHED)
    assert not owned.request_resume(NOON)
    assert len(requested) == 3


def test_retry_needs_failed_rows(owned: BatchRun, requested: Any) -> None:
    """A finished run without failed rows has nothing to retry."""
    assert owned.end("me", State.FINISHED, NOON)
    assert not owned.request_retry(NOON)
    BatchRun.objects.update(errors=3)
    assert owned.request_retry(NOON)
    assert requested == [(owned.pk, "retry_failed")]
    assert owned.acquire("me", NOON, LEASE)
    assert owned.end("me", State.FINISHED, NOON)
    assert again(owned).mode == Mode.RUN


# What is shown


def test_speed_and_time_left(owned: BatchRun) -> None:
    """Skipped rows cost nothing and do not count as speed; without a total nothing is foretold."""
    assert (owned.snapshot().rate, owned.snapshot().left) == (0.0, None)
    record_chunk(
        owned,
        None,
        "1",
        ok=180,
        failures=[BatchFailure.of(str(key), "x", "") for key in range(20)],
        skipped=300,
        by="me",
    )
    owned.beat("me", after(10), LEASE)
    now = owned.snapshot()
    assert (now.rate, now.left, now.fraction) == (20.0, 25.0, 0.5)
    owned.total = None
    assert (owned.snapshot().left, owned.snapshot().fraction) == (None, None)


def test_the_command_to_go_on_with(run: BatchRun) -> None:
    """The command as it was typed, with the flag in the place of what was there."""
    assert run.command_line("--resume") == ""
    run.command = ["python", "manage.py", "loopai_batch", "spam", "--filter", "label=a b", "--overwrite"]
    assert run.command_line("--resume") == "python manage.py loopai_batch spam --filter 'label=a b' --resume"


def test_a_run_is_found_by_what_it_does(run: BatchRun) -> None:
    """The fingerprint does not hang on the order in which facts are named; the newest run counts."""
    one = BatchRun.fingerprint_of(task="spam", source="inbox.Message", mapping={"text": "body", "id": "pk"})
    same = BatchRun.fingerprint_of(mapping={"id": "pk", "text": "body"}, source="inbox.Message", task="spam")
    other = BatchRun.fingerprint_of(mapping={"id": "pk", "text": "subject"}, source="inbox.Message", task="spam")
    assert one == same != other
    assert BatchRun.objects.latest_of(one) is None
    newest = [BatchRun.objects.create(task="spam", source="x", fingerprint=one) for _ in range(2)][-1]
    assert BatchRun.objects.latest_of(one) == newest


def test_deleting_a_run_takes_its_failures_and_parts(owned: BatchRun) -> None:
    """Nothing is left behind."""
    record_chunk(owned, None, "1", failures=[BatchFailure.of("1", "program", "no")], by="me")
    owned.parts.create(run=owned, after="1", upto="2")
    again(owned).delete()
    assert not BatchFailure.objects.exists()
    assert not BatchPart.objects.exists()
