"""The Django example as its users have it: its commands and its site as processes, by HTTP and in a browser."""

from __future__ import annotations

import html
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import expect

pytest.importorskip("django")

from loopai import local
from loopai.testing import signed_webhook

from .conftest import VIEWS, accessible, environment, legible

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2] / "example_projects" / "django_mail"
PATIENCE = 120.0
SECRET = "a secret of this test"
BATCH = ("loopai_batch", "spam", "--queryset", "mail.Message", "--save-to", "label=output.label", "--only-empty")
MESSAGES, JUDGED = 130, 100


class Site:
    """The example with a database of its own."""

    def __init__(self, folder: Path, server_url: str, **environ: str) -> None:
        self.database = folder / "mail.sqlite3"
        self.environ = environment(
            DJANGO_SETTINGS_MODULE="triage.settings",
            MAIL_DATA=str(folder),
            LOOPAI_BASE_URL=server_url,
            LOOPAI_WEBHOOK_SECRETS=SECRET,
            **environ,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A Python module as a process, in the folder of the project."""
        return subprocess.Popen(
            [sys.executable, "-m", *words], cwd=PROJECT, env=self.environ, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def manage(self, *words: str, code: int = 0) -> str:
        """A command of the site; gives what it said."""
        done = subprocess.run(
            [sys.executable, "manage.py", *words], cwd=PROJECT, env=self.environ, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == code, done.stdout
        return done.stdout

    def ask(self, query: str, *values: Any) -> Any:
        """The first value of a query."""
        with closing(sqlite3.connect(self.database, timeout=20, isolation_level=None)) as database:
            found = database.execute(query, values).fetchone()
            return None if found is None else found[0]


# The commands


def test_importing_twice_doubles_nothing(tmp_path: Path) -> None:
    """An e-mail is there once, with the verdict that it had, however often its file is imported."""
    site = Site(tmp_path, "http://127.0.0.1:9")
    site.manage("migrate", "-v0")
    assert "120 e-mails read: 120 added, 0 were there already." in site.manage("import_mail", "--limit", "120")
    site.ask("UPDATE mail_message SET label = 'spam' WHERE id = 7")
    assert "120 e-mails read: 0 added, 120 were there already." in site.manage("import_mail", "--limit", "120")
    assert "1,452 e-mails read: 1,332 added, 120 were there already." in site.manage("import_mail")
    assert site.ask("SELECT count(*) FROM mail_message") == 1452
    assert site.ask("SELECT count(DISTINCT source_id) FROM mail_message") == 1452
    assert site.ask("SELECT label FROM mail_message WHERE id = 7") == "spam"


def test_a_line_that_is_no_e_mail_is_named(tmp_path: Path) -> None:
    """With its file, its number, and what is missing."""
    site = Site(tmp_path, "http://127.0.0.1:9")
    site.manage("migrate", "-v0")
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"id": "a", "body": "Hello"}\n{"id": "b", "subject": "no body"}\n')
    assert "wrong.jsonl, line 2: KeyError('body')" in site.manage("import_mail", str(wrong), code=1)
    assert "missing.jsonl cannot be read" in site.manage("import_mail", str(tmp_path / "missing.jsonl"), code=1)


def test_its_own_tests_pass(tmp_path: Path) -> None:
    """`manage.py test`, on a fake in the place of the server."""
    assert re.search(r"Ran [1-9]\d* tests.*\sOK\s", Site(tmp_path, "http://127.0.0.1:9").manage("test"), re.DOTALL)


# The site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site's database, with verdicts on all but the newest 30 of 130 e-mails."""
    folder = tmp_path_factory.mktemp("site")
    with local.running() as server:
        made = Site(folder, server.base_url, DJANGO_SUPERUSER_PASSWORD="let me in")
        made.manage("migrate", "-v0")
        assert "Task spam" in made.manage("make_filter", "--examples", "300")
        made.manage("import_mail", "--limit", str(MESSAGES))
        made.manage(*BATCH, "--limit", str(JUDGED))
        made.manage("createsuperuser", "--noinput", "--username", "admin", "--email", "admin@example.com")
        yield made


@contextmanager
def served(site: Site) -> Iterator[str]:
    """Where a site is served, by an ASGI server."""
    process = site.start("uvicorn", "--port", "0", "--no-access-log", "triage.asgi:application")
    told = ""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            told += line
            found = re.search(r"running on (http://\S+)", line)
            if found:
                yield found[1]
                break
        else:
            raise AssertionError(f"the site did not start:\n{told}")
    finally:
        process.terminate()
        told += process.communicate(timeout=PATIENCE)[0]
    assert "Traceback" not in told, told


@pytest.fixture(scope="module")
def url(site: Site) -> Iterator[str]:
    """Where the site is served."""
    with served(site) as address:
        yield address


@pytest.fixture
def visitor(url: str) -> Iterator[httpx.Client]:
    """A browser without JavaScript: it has cookies, and follows what it is sent to."""
    with httpx.Client(base_url=url, follow_redirects=True, timeout=PATIENCE) as client:
        yield client


def rows(page: httpx.Response) -> dict[str, str]:
    """The messages of an inbox page: what is shown, by the message's number."""
    assert page.status_code == 200, page.text
    found = re.findall(r'<li id="message-(\d+)">(.*?)</li>', page.text, re.DOTALL)
    return {number: html.unescape(re.sub(r"<[^>]+>", " ", block)) for number, block in found}


def submit(visitor: httpx.Client, page: httpx.Response, address: str, **fields: str) -> httpx.Response:
    """Send a form of a page, as a browser does."""
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token, page.text
    return visitor.post(address, data={"csrfmiddlewaretoken": token[1], **fields})


def test_the_filter_is_made_once(site: Site) -> None:
    """Making it again finds the task that is there."""
    task = re.search(r"\(([0-9a-f-]{36})\)", site.manage("make_filter"))
    assert task
    listed = json.loads(site.manage("loopai_tasks", "list", "--json"))
    assert [(each["id"], each["name"]) for each in listed] == [(task[1], "spam")]


def test_the_inbox_shows_verdicts_by_filter_and_search(visitor: httpx.Client) -> None:
    """Each filter shows its own, newest first and 25 a page; a search keeps the filter."""
    everything = rows(visitor.get("/"))
    assert [int(number) for number in everything] == list(range(MESSAGES, MESSAGES - 25, -1))
    assert all("Not judged" in shown for shown in everything.values())
    older = rows(visitor.get("/", params={"page": 3}))
    assert all("Spam" in shown or "Not spam" in shown for shown in older.values())
    for name, chip in (("spam", r"\bSpam\b"), ("ham", r"\bNot spam\b"), ("unjudged", r"\bNot judged\b")):
        shown = rows(visitor.get("/", params={"show": name}))
        assert shown
        assert all(re.search(chip, text) for text in shown.values())
    found = visitor.get("/", params={"show": "ham", "q": "ilug"})
    assert 0 < len(rows(found)) < 25
    assert all("Not spam" in text for text in rows(found).values())
    assert not rows(visitor.get("/", params={"q": "no e-mail has this text"}))
    assert rows(visitor.get("/", params={"show": "nonsense", "page": "x"})) == everything


def test_an_e_mail_is_reclassified_without_javascript(site: Site, visitor: httpx.Client) -> None:
    """The button's form asks the program, keeps the verdict, says so, and comes back to where it was."""
    site.ask("UPDATE mail_message SET label = '' WHERE id = 60")
    message = visitor.get("/messages/60/")
    assert "Not judged" in message.text
    assert "<script" not in message.text
    back = submit(visitor, message, "/messages/60/reclassify/", next="/?show=all&page=3#message-60")
    assert back.url.raw_path == b"/?show=all&page=3"
    assert site.ask("SELECT label FROM mail_message WHERE id = 60") in {"spam", "ham"}
    assert re.search(r"is (not )?spam, judged in [\d.]+ ms", back.text)
    again = submit(visitor, message, "/messages/60/reclassify/", next="//elsewhere.example/")
    assert again.url.path == "/messages/60/"
    assert re.search(r"is still (not )?spam", again.text)
    assert visitor.post("/messages/60/reclassify/").status_code == 403  # without the form's token
    assert visitor.get("/messages/60/reclassify/").status_code == 405
    assert visitor.get("/messages/99999/").status_code == 404


def test_the_async_view_judges_a_text(visitor: httpx.Client) -> None:
    """As JSON, and as the page's form."""
    email = {"subject": "You have won", "body": "Claim your prize money now, click here"}
    verdict = visitor.post("/api/verdict/", json=email)
    assert verdict.json()["label"] in {"spam", "ham"}
    assert verdict.json()["latency_ms"] > 0
    refused = visitor.post("/api/verdict/", json={"subject": "no text"})
    assert (refused.status_code, refused.json()) == (422, {"errors": {"body": "Field required"}})
    assert visitor.get("/api/verdict/").status_code == 405
    page = visitor.get("/try/")
    judged = submit(visitor, page, "/try/", **email)
    assert re.search(rf'class="verdict {verdict.json()["label"]}"', judged.text)
    empty = submit(visitor, page, "/try/", subject="", body=" ")
    assert "Paste the text of an e-mail." in empty.text


def test_a_webhook_leaves_a_notice(site: Site, visitor: httpx.Client) -> None:
    """A signed delivery stands on the inbox page once, until it is read; any other changes nothing."""
    delivery = signed_webhook("programImproved", secret=SECRET, message="Version 2 of the filter is better")
    forged = [
        signed_webhook("programImproved", secret=None),
        signed_webhook("programImproved", secret="a guess"),
        replace(delivery, body=delivery.body.replace(b"Version 2", b"Version 9")),
    ]
    for each in forged:
        assert visitor.post("/loopai/webhook/", **each.as_httpx()).status_code == 400
    assert site.ask("SELECT count(*) FROM mail_notice") == 0
    for _ in range(2):
        assert visitor.post("/loopai/webhook/", **delivery.as_httpx()).status_code == 204
    assert site.ask("SELECT count(*) FROM mail_notice") == 1
    inbox = visitor.get("/")
    assert inbox.text.count("Version 2 of the filter is better") == 1
    number = site.ask("SELECT id FROM mail_notice")
    assert "Version 2" not in submit(visitor, inbox, f"/notices/{number}/read/").text


# In a browser


@pytest.fixture(params=VIEWS)
def page(request: pytest.FixtureRequest, opened: Callable[..., Any], url: str) -> Any:
    """The inbox in each view."""
    return opened(url, **VIEWS[request.param])


def figure(page: Any, name: str) -> str:
    """One of the figures above the inbox."""
    text: str = page.locator("dl.figures div").filter(has_text=name).locator("dd").first.inner_text()
    return text


def test_the_inbox_is_looked_through(page: Any) -> None:
    """Figures, filters, pages and a search, each with the number of what it shows; and what an empty one says."""
    legible(page)
    assert re.fullmatch(r"\d+\.\d %", figure(page, "Accuracy"))
    filters = page.get_by_role("navigation", name="Filters")
    for name in ("Spam", "Mistaken", "All"):
        link = filters.get_by_role("link", name=re.compile(rf"^{name} \d+"))
        number = int(link.inner_text().split()[-1])
        link.click()
        expect(filters.locator("[aria-current]")).to_have_text(re.compile(rf"^\s*{name}"))
        expect(page.locator("ol.messages > li")).to_have_count(min(25, number))
        legible(page)
    page.get_by_role("link", name="Older").click()
    expect(page.get_by_text(f"26–50 of {MESSAGES}")).to_be_visible()
    legible(page)
    page.get_by_label("Search", exact=True).fill("[ILUG]")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("ol.messages > li").nth(3)).to_be_visible()
    page.get_by_label("Search", exact=True).fill("<b>nobody & nothing</b>")
    page.keyboard.press("Enter")
    page.get_by_text("Nothing here has “<b>nobody & nothing</b>”.").wait_for()
    legible(page)
    page.get_by_role("link", name="Clear the search").click()
    expect(page.locator("ol.messages > li")).to_have_count(25)


def test_an_e_mail_is_judged_where_it_stands(page: Any, site: Site) -> None:
    """The row gets its verdict, is in sight, and what happened is announced."""
    site.ask("UPDATE mail_message SET label = '' WHERE id = 110")
    page.reload()
    row = page.locator("#message-110")
    expect(row.get_by_text("Not judged")).to_be_visible()
    row.get_by_role("button", name="Classify").click()
    page.get_by_role("status").filter(has_text="judged in").wait_for()
    expect(row.get_by_role("button", name="Reclassify")).to_be_visible()
    assert row.locator(".chip").inner_text() in {"Spam", "Not spam"}
    assert page.evaluate("scrollY") > 0
    assert row.evaluate("(row) => row.getBoundingClientRect().top >= 0")
    legible(page)


def test_an_e_mail_is_read(page: Any) -> None:
    """Its text is text, whatever tags it came with; what was sent can be looked at; and there is a way on."""
    page.goto(page.url + "messages/1/")
    assert page.get_by_role("heading", level=1).inner_text().startswith("70 percent off your life insurance")
    assert "Are You Paying Too Much for Life Insurance?" in page.locator("article .text").inner_text()
    expect(page.locator("article table, article font")).to_have_count(0)
    legible(page)
    page.get_by_text("As it was sent").click()
    assert "<table width" in page.locator("article pre").inner_text()
    legible(page)
    page.get_by_role("button", name="Reclassify").click()
    page.get_by_role("status").filter(has_text="is still").wait_for()
    legible(page)
    page.get_by_role("link", name="Newer").click()
    page.wait_for_url("**/messages/2/")
    page.get_by_role("link", name="← Inbox").click()
    expect(page.locator("ol.messages > li")).to_have_count(25)


def test_a_pasted_text_is_judged(page: Any) -> None:
    """With the text still there to be changed, and a word on what is missing."""
    page.get_by_role("link", name="Try a text").click()
    legible(page)
    page.get_by_role("button", name="Judge").click()
    expect(page.get_by_text("Paste the text of an e-mail.")).to_be_visible()
    assert page.get_by_label("Text", exact=True).get_attribute("aria-invalid") == "true"
    legible(page)
    page.get_by_label("Subject", exact=True).fill("You have won")
    page.get_by_label("Text", exact=True).fill("Claim your prize")
    page.get_by_role("button", name="Judge").click()
    assert re.fullmatch(r"(Spam|Not spam)\s*in [\d.]+ ms", page.get_by_role("region", name="Verdict").inner_text())
    assert page.get_by_label("Text", exact=True).input_value() == "Claim your prize"
    legible(page)


def test_a_notice_is_shown_and_read(page: Any, url: str) -> None:
    """What the server reported stands above the inbox until somebody has got it."""
    delivery = signed_webhook("canaryRollback", secret=SECRET, message="Version 3 was taken back", severity="error")
    assert httpx.post(f"{url}/loopai/webhook/", **delivery.as_httpx()).status_code == 204
    page.reload()
    notice = page.get_by_role("region", name="Reported by the server")
    expect(notice.get_by_text("Version 3 was taken back")).to_be_visible()
    legible(page)
    notice.get_by_role("button", name="Got it").click()
    notice.wait_for(state="detached")


def test_the_inbox_by_keyboard(opened: Callable[..., Any], url: str) -> None:
    """In the order of the page, with a focus that can be seen; after a verdict it goes on from there."""
    page = opened(url, **VIEWS["desktop, light"])

    def tab(name: str) -> None:
        page.keyboard.press("Tab")
        focused = "document.activeElement"
        assert page.evaluate(f"({focused}.labels?.[0] ?? {focused}).innerText").startswith(name)
        assert page.evaluate(f"getComputedStyle({focused}).outlineStyle") == "solid"
        assert page.evaluate(f"{focused}.getBoundingClientRect().left >= 0")

    for name in ("Skip to the content", "Mail triage", "Inbox", "Try a text", "Admin"):
        tab(name)
    page.reload()
    tab("Skip to the content")
    page.keyboard.press("Enter")
    tab(f"{JUDGED} rows")
    for name in ("All", "Spam", "Not spam", "Not yet judged", "Mistaken"):
        tab(name)
    tab("Search")
    page.keyboard.type("linux")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Clear the search").focus()
    page.keyboard.press("Tab")
    subject = page.evaluate("document.activeElement.innerText")
    page.keyboard.press("Tab")
    assert subject in page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    page.get_by_role("status").filter(has_text="judged in").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == subject


def log_in(page: Any) -> None:
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("let me in")
    page.get_by_role("button", name="Log in").click()
    page.locator("#user-tools").wait_for()


@pytest.mark.parametrize("view", ["desktop, light", "phone, dark"])
def test_the_run_in_the_admin(opened: Callable[..., Any], url: str, view: str) -> None:
    """The batch with its progress and its figures, and the e-mails that it judged."""
    page = opened(url, **VIEWS[view])
    page.get_by_role("link", name=f"{JUDGED} rows").click()
    log_in(page)
    panel = page.get_by_role("region", name="Progress")
    panel.wait_for()
    assert re.search(r"finished\s+100\.0 %", panel.inner_text())
    shown = dict(zip(panel.locator("dt").all_inner_texts(), panel.locator("dd").all_inner_texts()))
    assert (shown["rows"], shown["ok"], shown["failed"]) == (f"{JUDGED} of {JUDGED}", str(JUDGED), "0")
    expect(page.get_by_text("manage.py loopai_batch spam --queryset mail.Message")).to_be_visible()
    accessible(page, view)
    page.get_by_role("button", name="Copy").click()
    page.wait_for_function(
        "document.querySelector('[data-loopai-copy]').textContent === 'Copied' || getSelection() + ''"
    )
    page.get_by_text("Internals").click()
    accessible(page, view)
    panel.get_by_role("link", name="mail.Message").click()
    page.wait_for_url("**/admin/mail/message/")
    page.goto(f"{url}/admin/mail/message/?label__exact=spam")
    page.locator("#result_list tbody input").first.check()
    page.locator("select[name=action]").select_option("reclassify")
    page.get_by_role("button", name=re.compile("Go|Run")).click()
    page.get_by_text("1 of 1 messages were judged.").wait_for()


RUNS = """
from datetime import timedelta
from uuid import uuid4
from django.utils import timezone
from loopai.contrib.django.batches.recording import record_chunk
from loopai.contrib.django.models import BatchFailure, BatchRun, HandledEvent, PendingRow

now = timezone.now()
command = ["manage.py", "loopai_batch", "spam", "--queryset", "mail.Message", "--save-to", "label=output.label"]
options = {"queryset": "mail.Message", "mapping": ["body=body"], "save_to": ["label=output.label"], "active_version": 3}
for state, engine, failed in (
    ("running", "inline", 3), ("stopped", "inline", 12), ("interrupted", "celery", 40), ("finished", "celery", 0),
    ("stalled", "celery", 1),
):
    run = BatchRun.objects.create(
        task="spam", source="mail.Message", fingerprint=state, total=1452, engine=engine, command=command,
        options=options, started_by="ada@desk", compared=600, correct=580, active_seconds=73.4,
    )
    run.acquire("me", now, 100_000)
    failures = [BatchFailure.of(str(key), ("program", "unfit")[key % 2], "no <b>number</b>") for key in range(failed)]
    record_chunk(run, None, "700", ok=700 - failed, failures=failures, by="me")
    if state == "stalled":
        run.row().update(lease_until=now - timedelta(minutes=3))
    elif state != "running":
        run.end("me", state, now, "max_errors: more rows failed than --max-errors allows" if state == "stopped" else "")
for key in range(1, 5):
    PendingRow.objects.create(
        id=uuid4().hex, declaration="spam:label", key=str(key), due_at=now, created_at=now,
        state=("failed", "pending")[key % 2], code=("program", "")[key % 2], message="The program raised a ValueError",
    )
HandledEvent.objects.create(
    event_id=uuid4(), event_type="canaryRollback", alias="default", task_id=uuid4(), sent_at=now, severity="error",
    message="Version 5 was taken back", payload='{"error_rate": 0.12}',
)
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where another site is served, whose admin has runs in each state, failed and pending rows, and a delivery."""
    folder = tmp_path_factory.mktemp("filled")
    made = Site(folder, "http://127.0.0.1:9", DJANGO_SUPERUSER_PASSWORD="let me in")
    made.manage("migrate", "-v0")
    made.manage("import_mail", "--limit", "20")
    made.manage("createsuperuser", "--noinput", "--username", "admin", "--email", "admin@example.com")
    made.manage("shell", "--command", RUNS)
    with served(made) as address:
        yield address


@pytest.mark.parametrize("view", [name for name in VIEWS if name != "small phone"])
def test_every_page_of_the_admin(opened: Callable[..., Any], filled: str, view: str) -> None:
    """Runs in each state, failed and pending rows, deliveries, empty lists: axe-core finds nothing on them."""
    page = opened(f"{filled}/admin/", **VIEWS[view])
    log_in(page)
    for path in (
        "batchrun/", *(f"batchrun/{number}/change/" for number in range(1, 6)), "batchrun/2/delete/",
        "batchfailure/", "batchfailure/1/change/", "pendingrow/", "handledevent/", "batchrun/?task=nothing",
    ):  # fmt: skip
        page.goto(f"{filled}/admin/loopai/{path}")
        accessible(page, f"{view}: {path}")
    page.goto(f"{filled}/admin/loopai/handledevent/")
    page.locator("#result_list").get_by_role("link", name="canaryRollback").click()
    page.get_by_text('{"error_rate": 0.12}').wait_for()
    accessible(page, view)
    page.goto(f"{filled}/admin/loopai/batchrun/1/change/")
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    expect(page.get_by_role("link", name="Delete")).to_have_count(0)
    expect(page.get_by_role("img", name=re.compile(r"48\.2 %: 697 ok, 3 failed"))).to_be_visible()
    page.get_by_role("link", name="program").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(2)
    page.locator("#result_list").get_by_role("link", name="spam over mail.Message").first.click()
    page.wait_for_url("**/batchrun/1/change/")


ENRICHED = {
    "enriched_settings.py": "from triage.settings import *\nINSTALLED_APPS = [*INSTALLED_APPS, 'enriched']\n",
    "enriched/__init__.py": "",
    "enriched/apps.py": """
from django.apps import AppConfig

class EnrichedConfig(AppConfig):
    name = "enriched"

    def ready(self):
        from loopai.contrib.django import enrich
        from mail.models import Message

        enrich(Message, "spam", mapping=["subject=subject", "body=body"], save_to=["label=output.label"], within=60)
""",
    "enriched/admin.py": """
from loopai.contrib.django import enrich_action
from mail.admin import MessageAdmin

MessageAdmin.actions = (*MessageAdmin.actions, enrich_action("spam:label"))
""",
}


@pytest.mark.parametrize("view", ["desktop, light", "phone, dark"])
def test_ticked_rows_run_from_the_admin_s_list(
    opened: Callable[..., Any], site: Site, tmp_path: Path, view: str
) -> None:
    """`enrich_action`: tick rows, run them, read what came of it, and follow the link to the pending rows."""
    for name, text in ENRICHED.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = site.environ
    site.environ = {**before, "DJANGO_SETTINGS_MODULE": "enriched_settings", "PYTHONPATH": str(tmp_path)}
    site.ask("UPDATE mail_message SET label = '' WHERE id > 120")
    try:
        with served(site) as address:
            page = opened(f"{address}/admin/mail/message/?label__exact=", **VIEWS[view])
            log_in(page)
            for number in (0, 1):
                page.locator("#result_list tbody input").nth(number).check()
            page.locator("select[name=action]").select_option(label="Run spam:label")
            page.get_by_role("button", name=re.compile("Go|Run")).click()
            page.get_by_text("spam:label: 2 rows: 2 done.").wait_for()
            assert site.ask("SELECT count(*) FROM mail_message WHERE label = '' AND id > 120") == 8
            accessible(page, view)
            page.get_by_role("link", name="Pending rows", exact=True).last.click()
            page.wait_for_url("**/admin/loopai/pendingrow/?declaration__exact=spam:label")
            accessible(page, view)
    finally:
        site.environ = before


# On several processes


def test_celery_s_workers_judge_the_inbox(site: Site) -> None:
    """`--engine celery` on Redis: workers of the example's Celery application fill in what has no verdict."""
    redis = pytest.importorskip("redis")
    broker, queue = "redis://127.0.0.1:6379/0", f"loopai-test-{uuid4().hex[:8]}"
    server = redis.Redis.from_url(broker)
    try:
        server.ping()
    except redis.exceptions.ConnectionError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no Redis on this machine: {error}")
    site.environ.update(CELERY_BROKER_URL=broker, CELERY_QUEUE=queue, C_FORCE_ROOT="1")
    site.ask("UPDATE mail_message SET label = '' WHERE id <= 90")
    # Celery's own imports warn.
    site.environ["PYTHONWARNINGS"] = "default"
    worker = site.start("celery", "-A", "triage", "worker", "--concurrency", "2", "--loglevel", "WARNING",
                        "--without-gossip", "--without-mingle", "--hostname", f"{queue}@test")  # fmt: skip
    try:
        said = site.manage(*BATCH, "--filter", "id__lte=90", "--chunk-size", "20", "--engine", "celery")
    finally:
        worker.terminate()
        log = worker.communicate(timeout=PATIENCE)[0]
        with server:
            server.delete(queue, f"_kombu.binding.{queue}")
    assert "90 ok, 0 errors" in said, log
    assert site.ask("SELECT count(*) FROM mail_message WHERE id <= 90 AND label = ''") == 0
    assert site.ask("SELECT engine FROM loopai_batchrun ORDER BY id DESC") == "celery"
