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
    assert 'aria-label="50.0 %: 97 ok, 3 failed, 0 skipped"' in text
    assert re.findall(r'class="loopai-bar-(\w+)" x="([\d.]+)" width="([\d.]+)"', text) == [
        ("ok", "0.00", "48.50"),
        ("failed", "48.50", "1.50"),
    ]
    assert f'href="/admin/loopai/batchfailure/?run__id__exact={run.pk}&amp;code=program"' in text
    assert '<code tabindex="0">manage.py loopai_batch spam --queryset inbox.Message</code>' in text
    assert 'name="_save"' not in text


def test_a_run_s_card_has_what_a_person_asks(admin_client: Client, run: BatchRun) -> None:
    """Task, rows, ok, failed, speed, accuracy, duration, and who started it; not what the engine keeps for itself."""
    BatchRun.objects.update(
        started_by="ada@desk", active_seconds=95, compared=80, correct=76, skipped=20, options={"save_to": ["label"]}
    )
    text = page(admin_client, f"{RUNS}{run.pk}/change/")
    card = text[text.index('class="loopai-panel"') : text.index("<fieldset")]
    shown = dict(re.findall(r"<dt>([^<]*)</dt><dd[^>]*>([^<]*)</dd>", card))
    started = shown.pop("started")
    assert started
    assert shown == {
        "rows": "120 of 200", "ok": "97", "failed": "3", "skipped": "20", "accuracy": "95.0%", "rows a second": "1.1",
        "duration": "1:35", "left": "1:16", "started by": "ada@desk", "save to": "label",
    }  # fmt: skip
    assert "lease" not in card.lower()
    assert re.search(r'<(details|fieldset)[^>]*class="[^"]*\b(collapse|module)\b', text)


def test_few_failed_rows_of_many_are_seen_in_the_bar() -> None:
    """It does not say that all is well; and no part of it sticks out."""
    from loopai.contrib.django.admin import _bar

    assert _bar(BatchRun(total=100_000, ok=99_999, errors=1)) == [("ok", "0.00", "100.00"), ("failed", "98.50", "1.50")]
    assert _bar(BatchRun(total=10, errors=10)) == [("failed", "0.00", "100.00")]
    assert _bar(BatchRun(total=None, ok=5)) is None


def test_links_lead_from_a_run_to_its_rows_and_back(admin_client: Client, run: BatchRun, mail_admin: None) -> None:
    """Run to rows and failed rows; a failed row to its run and to the row's own page; a pending row to the row."""
    BatchRun.objects.update(source="inbox.Mail:unlabelled", options={"queryset": "inbox.Mail:unlabelled"})
    assert '<a href="/admin/inbox/mail/">inbox.Mail:unlabelled</a>' in page(admin_client, f"{RUNS}{run.pk}/change/")
    failures = page(admin_client, "/admin/loopai/batchfailure/", run__id__exact=run.pk)
    assert failures.count(f'<a href="{RUNS}{run.pk}/change/">') == 3
    assert '<a href="/admin/inbox/mail/2/change/">' in failures
    failure = run.failures.get(key="2")
    one = page(admin_client, f"/admin/loopai/batchfailure/{failure.pk}/change/")
    assert f'<a href="{RUNS}{run.pk}/change/">' in one
    assert '<a href="/admin/inbox/mail/2/change/">' in one


@pytest.mark.parametrize("source", ["inbox.Message", "nothing.There", "inbox.Message:<QuerySet 12>"])
def test_a_model_without_admin_pages_has_no_links(admin_client: Client, run: BatchRun, source: str) -> None:
    """Nor has one that is not installed any more."""
    BatchRun.objects.update(source=source, options={"queryset": source})
    assert "/admin/inbox/" not in page(admin_client, f"{RUNS}{run.pk}/change/")
    assert page(admin_client, "/admin/loopai/batchfailure/").count('field-row_link">–<') == 3


def test_the_list_has_task_numbers_and_outcome(admin_client: Client, run: BatchRun) -> None:
    """At a glance, without opening the run."""
    text = page(admin_client, RUNS)
    row = text[text.index('id="result_list"') :]
    told = " ".join(re.sub(r"<[^>]+>", " ", row[: row.index("</table>")]).split())
    assert "&lt;b&gt;spam&lt;/b&gt; running 50.0 % 97 ok 3 failed inbox.Message" in told


@pytest.mark.parametrize(
    ("path", "told", "command"),
    [
        (RUNS, "No run yet", "manage.py loopai_batch TASK"),
        ("/admin/loopai/batchfailure/", "No row has failed", ""),
        ("/admin/loopai/handledevent/", "No delivery yet", "/loopai/webhook/"),
        ("/admin/loopai/pendingrow/", "No row is waiting", "manage.py loopai_batch --pending"),
    ],
)
def test_an_empty_list_says_how_to_get_something(admin_client: Client, path: str, told: str, command: str) -> None:
    """One that a search or a filter has emptied does not."""
    text = page(admin_client, path)
    assert told in text
    assert command in text
    assert told not in page(admin_client, path, q="nothing")


def test_a_delivery_keeps_message_and_payload(admin_client: Client) -> None:
    """As the server wrote them, escaped; the list has the message."""
    told = {"message": "<b>Version 2</b> is better", "severity": "warning", "data": {"accuracy": 0.97, "note": "<i>\0"}}
    admin_client.post("/loopai/webhook/", **signed_webhook("programImproved", secret="new secret", **told).as_django())
    assert "&lt;b&gt;Version 2&lt;/b&gt; is better" in page(admin_client, "/admin/loopai/handledevent/")
    text = page(admin_client, f"/admin/loopai/handledevent/{HandledEvent.objects.get().pk}/change/")
    assert "&lt;b&gt;Version 2&lt;/b&gt; is better" in text
    assert "&quot;accuracy&quot;: 0.97" in text
    assert "warning" in text
    assert "<i>" not in text


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
    """An inline run has commands to copy in the place of buttons, once no worker has it; Celery's has the buttons."""
    path = f"{RUNS}{run.pk}/change/"
    assert "--resume" not in page(admin_client, path)
    BatchRun.objects.filter(pk=run.pk).update(state=State.STOPPED)
    text = page(admin_client, path)
    assert "inbox.Message --resume</code>" in text
    assert "inbox.Message --retry-failed</code>" in text
    assert buttons(text) == []
    BatchRun.objects.filter(pk=run.pk).update(state=State.FINISHED)
    text = page(admin_client, path)
    assert "--resume" not in text
    assert "inbox.Message --retry-failed</code>" in text
    BatchRun.objects.filter(pk=run.pk).update(state=State.STOPPED, engine="celery")
    text = page(admin_client, path)
    assert "--resume" not in text
    assert buttons(text) == ["resume", "retry"]


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
    assert 'aria-label="75.0 %' in told["runs"][str(run.pk)]
    assert "Failed rows by kind" in told["runs"][str(run.pk)]
    BatchRun.objects.update(error="<script>alert(1)</script>", state=State.STOPPED)
    told = admin_client.get(f"{RUNS}progress/", {"run": run.pk, "part": "panel"}).json()
    assert told["live"] is False
    assert "&lt;script&gt;" in told["runs"][str(run.pk)]


def test_a_killed_run_is_shown_as_stalled(admin_client: Client, run: BatchRun) -> None:
    """Not as running: nobody is at it."""
    BatchRun.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert "stalled" in page(admin_client, RUNS)
    text = page(admin_client, f"{RUNS}{run.pk}/change/")
    assert "Its worker has stopped responding" in text
    assert "--resume</code>" in text
    BatchRun.objects.update(engine="celery")
    assert buttons(page(admin_client, f"{RUNS}{run.pk}/change/")) == ["resume", "retry"]


def test_what_may_be_asked_follows_the_state(admin_client: Client, run: BatchRun) -> None:
    """A live run can be cancelled, one that ended early resumed, failed rows retried; the log remembers who asked."""
    path = f"{RUNS}{run.pk}/change/"
    assert buttons(page(admin_client, path)) == ["cancel"]
    assert asked(admin_client, run, "resume") == (200, ["1 run has nothing to resume now."])
    assert asked(admin_client, run, "cancel") == (200, ["Requested for 1 run: cancel."])
    run.refresh_from_db()
    assert (run.state, run.cancel_requested) == (State.RUNNING, True)
    assert buttons(page(admin_client, path)) == []
    run.end("me", State.CANCELLED, timezone.now())
    assert asked(admin_client, run, "retry")[1] == [
        "<b>spam</b> over inbox.Message continues once its command is run: "
        "manage.py loopai_batch spam --queryset inbox.Message --retry-failed",
        "Requested for 1 run: retry failed rows.",
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
    assert asked(operator, run, "cancel")[1] == ["Requested for 1 run: cancel."]
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
    assert admin_client.get(path).status_code == 403
    assert f'href="{path}"' not in page(admin_client, f"{RUNS}{run.pk}/change/")
    data = {"action": "delete_selected", "_selected_action": [run.pk]}
    assert "is running" in admin_client.post(RUNS, data).content.decode()
    run.end("me", State.CANCELLED, timezone.now())
    assert f'href="{path}"' in page(admin_client, f"{RUNS}{run.pk}/change/")
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
