"""The admin pages: what is shown, to whom, and what may be asked of a run."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from loopai.contrib.django.batches.recording import record_chunk
from loopai.contrib.django.models import BatchFailure, BatchRun, HandledEvent
from loopai.testing import signed_webhook

pytestmark = pytest.mark.django_db

State = BatchRun.State
RUNS = "/admin/loopai/batchrun/"
COMMAND = ["manage.py", "loopai_batch", "spam", "--queryset", "inbox.Message"]


@pytest.fixture
def run() -> BatchRun:
    """A run half done, live, with failed rows; what it says of itself could hurt a page that does not escape."""
    made = BatchRun.objects.create(
        task="<b>spam</b>", source="inbox.Message", fingerprint="f", total=200, command=COMMAND
    )
    assert made.acquire("me", timezone.now(), 600)
    failures = [BatchFailure.of(str(key), "program", "<script>alert(1)</script>") for key in range(3)]
    record_chunk(made, None, "100", ok=97, failures=failures, by="me")
    return made


def user_with(*permissions: str) -> Client:
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def page(client: Client, path: str, **query: Any) -> str:
    answer = client.get(path, query)
    assert answer.status_code == 200, answer
    text: str = answer.content.decode()
    return text


def asked(client: Client, run: BatchRun, what: str) -> tuple[int, list[str]]:
    answer = client.post(f"{RUNS}{run.pk}/change/", {"loopai_ask": what}, follow=True)
    return answer.status_code, [str(message) for message in answer.context["messages"]] if answer.context else []


def buttons(text: str) -> list[str]:
    return re.findall(r'name="loopai_ask" value="(\w+)"', text)


def test_every_page_opens(admin_client: Client, run: BatchRun) -> None:
    """Lists, pages, filters, searches, deletion: of runs, failed rows and deliveries."""
    admin_client.post("/loopai/webhook/", **signed_webhook(secret="new secret").as_django())
    failure, delivery = run.failures.first(), HandledEvent.objects.get()
    assert failure is not None
    for path in (
        "/admin/", RUNS, f"{RUNS}?state__exact=running", f"{RUNS}?q=spam", f"{RUNS}{run.pk}/change/",
        f"{RUNS}{run.pk}/history/", "/admin/loopai/batchfailure/", "/admin/loopai/batchfailure/?q=1",
        f"/admin/loopai/batchfailure/?run__id__exact={run.pk}&code=program",
        f"/admin/loopai/batchfailure/{failure.pk}/change/", f"/admin/loopai/batchfailure/{failure.pk}/delete/",
        "/admin/loopai/handledevent/", f"/admin/loopai/handledevent/{delivery.pk}/change/",
        f"/admin/loopai/handledevent/{delivery.pk}/delete/",
    ):  # fmt: skip
        text = page(admin_client, path)
        assert "<b>spam" not in text
        assert "<script>alert" not in text
    assert admin_client.get(f"{RUNS}add/").status_code == 403
    assert admin_client.get(f"{RUNS}999/change/").status_code == 302


def test_a_run_s_page_shows_where_it_is_and_what_failed(admin_client: Client, run: BatchRun) -> None:
    """Progress, failed rows by kind with the way to their list, and the command to go on with."""
    text = page(admin_client, f"{RUNS}{run.pk}/change/")
    assert '<progress max="100" value="50.0">' in text
    assert f'href="/admin/loopai/batchfailure/?run__id__exact={run.pk}&amp;code=program"' in text
    assert "manage.py loopai_batch spam --queryset inbox.Message --resume" in text
    assert 'name="_save"' not in text


def test_numbers_are_grouped_for_people_and_not_for_links(admin_client: Client, settings: Any) -> None:
    """With thousand separators everywhere, the page of run 1234 still asks for run 1234."""
    settings.USE_THOUSAND_SEPARATOR = True
    run = BatchRun.objects.create(pk=1234, task="spam", source="inbox.Message", fingerprint="f", total=5678)
    assert run.acquire("me", timezone.now(), 600)
    record_chunk(run, None, "1", ok=4321, failures=[BatchFailure.of("1", "program", "no")], by="me")
    text = page(admin_client, f"{RUNS}{run.pk}/change/")
    assert 'data-loopai-run="1234"' in text
    assert "run__id__exact=1234&" in text
    assert "4,322 of 5,678" in text


def test_the_command_goes_on_where_something_is_left(admin_client: Client, run: BatchRun) -> None:
    """It is shown with `--resume` until the run has finished."""
    assert "inbox.Message --resume" in page(admin_client, f"{RUNS}{run.pk}/change/")
    BatchRun.objects.filter(pk=run.pk).update(state=State.FINISHED)
    assert "--resume" not in page(admin_client, f"{RUNS}{run.pk}/change/")


def test_a_strict_content_security_policy_has_nothing_to_forbid(admin_client: Client, run: BatchRun) -> None:
    """No inline script, style or handler of ours, and nothing from another host."""
    ours = re.compile(r"<script(?![^>]*(src=|id=\"django-|type=\"application/json\"))|<style|\son\w+=|\sstyle=")
    for path in (RUNS, f"{RUNS}{run.pk}/change/"):
        text = page(admin_client, path)
        assert not ours.search(text), ours.search(text)
        assert "/static/loopai/progress.js" in text
        assert not re.search(r"(src|href)=\"(https?:)?//", text)


def test_progress_is_refreshed(admin_client: Client, run: BatchRun) -> None:
    """The address that the page names gives the fragment anew, for one run or several, escaped, never cached."""
    text = page(admin_client, RUNS)
    assert f'data-loopai-run="{run.pk}" data-loopai-part="row" data-loopai-url="{RUNS}progress/"' in text
    record_chunk(run, "100", "150", ok=50, by="me")
    answer = admin_client.get(f"{RUNS}progress/", {"run": [run.pk, 999, "x", "9" * 40], "part": "panel"})
    told = answer.json()
    assert "no-store" in answer["Cache-Control"]
    assert (list(told["runs"]), told["live"]) == ([str(run.pk)], True)
    assert 'value="75.0"' in told["runs"][str(run.pk)]
    BatchRun.objects.update(error="<script>alert(1)</script>", state=State.STOPPED)
    told = admin_client.get(f"{RUNS}progress/", {"run": run.pk, "part": "panel"}).json()
    assert told["live"] is False
    assert "&lt;script&gt;" in told["runs"][str(run.pk)]


def test_a_killed_run_is_shown_as_stalled(admin_client: Client, run: BatchRun) -> None:
    """Not as running: nobody is at it."""
    BatchRun.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert "stalled" in page(admin_client, RUNS)
    text = page(admin_client, f"{RUNS}{run.pk}/change/")
    assert "stalled: its owner is silent" in text
    assert buttons(text) == ["resume", "retry"]


def test_what_may_be_asked_follows_the_state(admin_client: Client, run: BatchRun) -> None:
    """A live run can be cancelled, one that ended early resumed, failed rows retried; the log remembers who asked."""
    path = f"{RUNS}{run.pk}/change/"
    assert buttons(page(admin_client, path)) == ["cancel"]
    assert asked(admin_client, run, "resume") == (200, ["1 run has nothing to resume now."])
    assert asked(admin_client, run, "cancel") == (200, ["1 run was asked: cancel."])
    run.refresh_from_db()
    assert (run.state, run.cancel_requested) == (State.RUNNING, True)
    assert buttons(page(admin_client, path)) == []
    run.end("me", State.CANCELLED, timezone.now())
    assert buttons(page(admin_client, path)) == ["resume", "retry"]
    assert asked(admin_client, run, "retry")[1] == [
        "<b>spam</b> over inbox.Message continues once its command is called: "
        "manage.py loopai_batch spam --queryset inbox.Message --retry-failed",
        "1 run was asked: retry failed rows.",
    ]
    run.refresh_from_db()
    assert (run.state, run.mode) == (State.PENDING, "retry_failed")
    assert [entry.change_message for entry in LogEntry.objects.order_by("pk")] == [
        "Cancel requested.",
        "Retry failed rows requested.",
    ]


def test_actions_of_the_list(admin_client: Client, run: BatchRun) -> None:
    """Several runs at once; those that have nothing to do are told apart."""
    BatchRun.objects.create(task="ham", source="inbox.Message", fingerprint="g", state=State.FINISHED)
    for what, state in (("cancel", State.RUNNING), ("resume", State.PENDING), ("retry", State.PENDING)):
        if what != "cancel":
            BatchRun.objects.filter(pk=run.pk).update(state=State.STOPPED)
        data = {"action": what, "_selected_action": list(BatchRun.objects.values_list("pk", flat=True))}
        answer = admin_client.post(RUNS, data, follow=True)
        told = [str(message) for message in answer.context["messages"]]
        assert f"1 run has nothing to {what} now." in told
        run.refresh_from_db()
        assert run.state == state


def test_permissions_are_django_s(run: BatchRun) -> None:
    """To view is not to ask; without view there is nothing; deletion is its own."""
    viewer = user_with("view_batchrun")
    assert buttons(page(viewer, f"{RUNS}{run.pk}/change/")) == []
    assert 'value="cancel"' not in page(viewer, RUNS)
    assert viewer.post(f"{RUNS}{run.pk}/change/", {"loopai_ask": "cancel"}).status_code == 403
    assert viewer.get(f"{RUNS}progress/", {"run": run.pk}).status_code == 200
    assert viewer.get(f"{RUNS}{run.pk}/delete/").status_code == 403
    User.objects.all().delete()
    stranger = user_with("view_handledevent")
    for path in (RUNS, f"{RUNS}{run.pk}/change/", f"{RUNS}progress/", "/admin/loopai/batchfailure/"):
        assert stranger.get(path).status_code == 403
    assert Client().get(f"{RUNS}progress/").status_code == 302
    User.objects.all().delete()
    operator = user_with("view_batchrun", "change_batchrun")
    assert asked(operator, run, "cancel")[1] == ["1 run was asked: cancel."]
    run.refresh_from_db()
    assert run.cancel_requested


def test_nothing_is_edited_by_hand(admin_client: Client, run: BatchRun) -> None:
    """A POST without a question changes nothing, whatever it brings; a forged one is refused."""
    before = BatchRun.objects.values().get()
    answer = admin_client.post(f"{RUNS}{run.pk}/change/", {"task": "ham", "mark": "9", "_save": "Save"})
    assert answer.status_code == 302
    assert BatchRun.objects.values().get() == before
    checking = Client(enforce_csrf_checks=True)
    checking.force_login(User.objects.get())
    assert checking.post(f"{RUNS}{run.pk}/change/", {"loopai_ask": "cancel"}).status_code == 403
    assert BatchRun.objects.values().get() == before


def test_deleting_asks_with_numbers_and_spares_live_runs(admin_client: Client, run: BatchRun) -> None:
    """The page counts failed rows instead of listing them; a live run has to be cancelled first."""
    BatchFailure.objects.bulk_create(
        BatchFailure(run=run, digest=f"{key}", key=f"row {key}", code="program") for key in range(1000)
    )
    path = f"{RUNS}{run.pk}/delete/"
    assert "is running" in page(admin_client, path)
    run.end("me", State.CANCELLED, timezone.now())
    text = page(admin_client, path)
    assert "1003" in text
    assert "row 500" not in text
    assert admin_client.post(path, {"post": "yes"}).status_code == 302
    assert not BatchRun.objects.exists()
    assert not BatchFailure.objects.exists()


def test_the_pages_ask_the_database_no_more_for_many_runs(
    admin_client: Client, run: BatchRun, django_assert_max_num_queries: Any
) -> None:
    """A list of 50 runs costs as many queries as one of a few."""
    BatchRun.objects.bulk_create(
        BatchRun(task=f"task {turn}", source="inbox.Message", fingerprint="f", total=10) for turn in range(50)
    )
    with django_assert_max_num_queries(10):
        page(admin_client, RUNS)
    with django_assert_max_num_queries(4):
        page(admin_client, reverse("admin:loopai_batchrun_progress"), run=list(range(200)))
