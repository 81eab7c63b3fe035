"""The FastAPI example as its users have it: `make demo-fastapi`'s process, by HTTP and in a browser."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from .conftest import VIEWS, legible

ROOT = Path(__file__).parents[2]
DEV = ROOT / "example_projects" / "data" / "emails.dev.jsonl.gz"
PATIENCE = 120.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The example on a free port, with a program made from a part of the e-mails."""
    demo = ROOT / "example_projects" / "fastapi_mail"
    environ = {name: text for name, text in os.environ.items() if not name.startswith("LOOPAI_")}
    command = [sys.executable, "-u", str(demo), "--port", "0", "--examples", "300"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        told = ""
        for line in process.stdout:
            told += line
            found = re.search(r"Open (http://\S+)/", line)
            if found:
                break
        else:
            raise AssertionError(f"the example did not start:\n{told}")
        yield found[1]
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert process.returncode in {0, -15}


@pytest.fixture(scope="module")
def mails() -> list[dict[str, str]]:
    with gzip.open(DEV, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_the_api_judges_one_e_mail(url: str, mails: list[dict[str, str]]) -> None:
    """And refuses what is none, with a problem that names the field."""
    reply = httpx.post(f"{url}/api/verdicts", json={"subject": mails[0]["subject"], "body": mails[0]["body"]})
    assert reply.json()["label"] in {"spam", "ham"}
    assert httpx.post(f"{url}/api/verdicts", json={"subject": "no text"}).status_code == 422
    assert httpx.get(f"{url}/health/ready").json() == {"status": "ready", "upstream": "ready"}
    assert "/api/batch" in httpx.get(f"{url}/openapi.json").json()["paths"]


def test_the_documentation_needs_no_other_server(url: str) -> None:
    """Scripts and styles of `/docs` come from the application itself."""
    sources = re.findall(r'(?:src|href)="([^"]+)"', httpx.get(f"{url}/docs").text)
    assert sources
    for source in sources:
        assert source.startswith("/"), source
        assert httpx.get(f"{url}{source}").status_code == 200


def test_the_api_judges_a_file(url: str, mails: list[dict[str, str]]) -> None:
    """The gzipped file as it is, in one post."""
    reply = httpx.post(
        f"{url}/api/batch", params={"key": "id", "format": "jsonl"}, content=DEV.read_bytes(), timeout=PATIENCE
    )
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in reply.text.split("\n\n") if block]
    assert {block["id"] for block in blocks if block["event"] == "result"} == {mail["id"] for mail in mails}
    summary = json.loads(blocks[-1]["data"])
    assert (summary["ok"], summary["errors"]) == (1452, 0)
    assert summary["quality"]["accuracy"] > 0.9


# In a browser


@pytest.fixture(params=VIEWS)
def page(request: pytest.FixtureRequest, opened: Callable[..., Any], url: str) -> Any:
    """The page in each view."""
    return opened(url, **VIEWS[request.param])


def test_an_e_mail_is_pasted_and_judged(page: Any) -> None:
    """The verdict stands there, and is announced."""
    legible(page)
    page.get_by_role("button", name="Example", exact=True).click()
    page.get_by_role("button", name="Judge").click()
    verdict = page.get_by_role("status").filter(has_text="ms")
    verdict.wait_for()
    assert re.fullmatch(r"(Spam|Not spam)\s*in [\d.]+ ms", verdict.inner_text())
    legible(page)


class Posts:
    """Lets so many posts of the page through, and keeps the others until they are let go."""

    def __init__(self, page: Any, through: float) -> None:
        self._through = through
        self._kept: list[Any] = []
        self.rows: list[int] = []
        page.route("**/api/batch?*", self._take)

    def _take(self, route: Any) -> None:
        if self._through > 0:
            self._through -= 1
            self.rows.extend(json.loads(line)["_row"] for line in route.request.post_data.splitlines())
            route.continue_()
        else:
            self._kept.append(route)

    def let_go(self) -> None:
        kept, self._kept, self._through = self._kept, [], float("inf")
        for route in kept:
            self._take(route)

    def forget(self) -> None:
        """The page has given up those that were kept."""
        self._kept, self._through, self.rows = [], float("inf"), []


def figure(page: Any, name: str) -> float:
    return float(page.locator(f"#{name}").inner_text().replace(",", "").replace(" %", ""))


def test_a_file_is_judged_while_one_watches(page: Any, tmp_path: Path, mails: list[dict[str, str]]) -> None:
    """Rows, rate, accuracy and errors come in; then the result can be downloaded, in the order of the rows."""
    given = [*mails[:600], {"subject": "no text at all"}]
    path = tmp_path / "mails.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    posts = Posts(page, through=2)
    page.get_by_label("Choose a file").set_input_files(path)
    page.locator("#rows").get_by_text("400").wait_for()
    expect(page.locator("#latest tr")).to_have_count(50)
    legible(page)
    posts.let_go()
    page.get_by_text("All 601 rows judged").wait_for()
    assert (figure(page, "rows"), figure(page, "errors")) == (601, 1)
    assert figure(page, "accuracy") > 85
    assert figure(page, "rate") > 0
    legible(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSONL").click()
    rows = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    assert download.value.suggested_filename == "mails.verdicts.jsonl"
    assert [row["subject"] for row in rows] == [row["subject"] for row in given]
    assert [row["status"] for row in rows] == ["ok"] * 600 + ["error"]
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    with open(download.value.path(), encoding="utf-8", newline="") as file:
        from_csv = list(csv.DictReader(file))
    # What begins like a formula has an apostrophe there.
    assert [(row["body"].removeprefix("'"), row["verdict"]) for row in from_csv[:600]] == [
        (row["body"].removeprefix("'"), row["verdict"]) for row in rows[:600]
    ]


def test_a_csv_with_quotes_and_line_breaks(page: Any, tmp_path: Path, mails: list[dict[str, str]]) -> None:
    """Dropped onto the page, gzipped, with semicolons."""
    rows = [*mails[:40], {"subject": 'he said "no; never"', "body": "one\r\ntwo", "label": "ham"}]
    text = io.StringIO()
    writer = csv.DictWriter(text, ["label", "subject", "body"], delimiter=";", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    packed = list(gzip.compress(("\ufeff" + text.getvalue()).encode()))
    page.evaluate(
        """(bytes) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], "mails.csv.gz"));
          const dropped = new DragEvent("drop", { bubbles: true, dataTransfer: transfer });
          document.getElementById("drop").dispatchEvent(dropped);
        }""",
        packed,
    )
    page.get_by_text("All 41 rows judged").wait_for()
    assert figure(page, "errors") == 0
    expect(page.get_by_role("cell", name='he said "no; never"')).to_have_count(1)


def test_what_is_stopped_goes_on_where_it_stopped(page: Any) -> None:
    """No row twice, none left out."""
    posts = Posts(page, through=3)
    page.get_by_role("button", name="Take 1,452 example e-mails").click()
    page.locator("#rows").get_by_text("600").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped. 852 rows are left.").wait_for()
    assert sorted(posts.rows) == list(range(600))
    posts.forget()
    page.get_by_role("button", name="Go on").click()
    page.get_by_text("All 1,452 rows judged").wait_for()
    assert sorted(posts.rows) == list(range(600, 1452))
    assert figure(page, "rows") == 1452
    page.get_by_role("button", name="Another file").click()
    expect(page.get_by_text("Choose a file")).to_be_visible()


def test_a_file_that_is_none_is_told(page: Any, tmp_path: Path) -> None:
    """With what is wrong, and a way back."""
    for name, content, told in (
        ("mails.xls", "", "the name must end in .csv"),
        ("mails.jsonl", '{"body"\n{"body"\n', "line 1 is not JSON"),
        ("mails.json", '{"total": 1}', "the rows must be an array"),
        ("mails.csv", "id,text\n1,a\n", "there is no column body"),
    ):
        (tmp_path / name).write_text(content)
        page.get_by_label("Choose a file").set_input_files(tmp_path / name)
        page.get_by_text(told).wait_for()
        expect(page.get_by_role("progressbar")).to_be_hidden()
        expect(page.locator("#figures")).to_be_hidden()
        legible(page)
        page.get_by_role("button", name="Another file").click()


TABLE = "ID;SUBJECT;Body;Label\n1;Café;Grüße, wie geht es?;ham\n2;x;Claim your FREE prize, click here now;spam\n"
FILES: dict[str, bytes] = {
    "rows.json": b'{"total": 2, "rows": [{"Body": "Lunch?"}, {"BODY": "Claim your prize"}]}',
    "utf-16.csv": TABLE.encode("utf-16"),
    "utf-16-without-a-mark.csv": TABLE.encode("utf-16-le"),
    "latin-1.csv": TABLE.encode("latin-1"),
    "utf-8.csv": b"\xef\xbb\xbf" + TABLE.encode(),
}


def download(page: Any, button: str) -> str:
    """The text of a file that the page offers."""
    with page.expect_download() as downloading:
        page.get_by_role("button", name=button).click()
    return Path(downloading.value.path()).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_files_as_other_programs_write_them(page: Any, tmp_path: Path, name: str) -> None:
    """Rows in an object, names in capitals, and other encodings than UTF-8."""
    (tmp_path / name).write_bytes(FILES[name])
    page.get_by_label("Choose a file").set_input_files(tmp_path / name)
    page.get_by_text("All 2 rows judged").wait_for()
    assert figure(page, "errors") == 0
    if name.endswith(".csv"):
        expect(page.get_by_role("cell", name="Café")).to_have_count(1)
        assert page.locator("#compared").inner_text().endswith("wrong")
        assert json.loads(download(page, "Download JSONL").splitlines()[0])["Body"] == "Grüße, wie geht es?"


def test_a_line_that_cannot_be_read_is_its_row_s_error(page: Any, tmp_path: Path) -> None:
    """The other rows are judged."""
    for name, content, told in (
        ("mails.jsonl", '{"body": "a"}\n{"body"\n7\n{"body": "b"}\n', ("line 2 is not JSON", "row 3 is not an object")),
        ("mails.csv", 'id,body\n1,a\n2,"b" c\n3,d,e\n4,f\n', ("line 3 is not CSV", "line 4 has 3 fields")),
    ):
        (tmp_path / name).write_text(content)
        page.get_by_label("Choose a file").set_input_files(tmp_path / name)
        page.get_by_text("All 4 rows judged").wait_for()
        rows = [json.loads(line) for line in download(page, "Download JSONL").splitlines()]
        assert [row["status"] for row in rows] == ["ok", "error", "error", "ok"]
        assert [row["error"].startswith(text) for row, text in zip(rows[1:3], told)] == [True, True]
        page.get_by_role("button", name="Another file").click()


def test_a_result_keeps_the_columns_of_the_file(page: Any, tmp_path: Path) -> None:
    """A `status` of the rows stays theirs; what a spreadsheet would run is text in the CSV, and as it was in JSONL."""
    given = {
        "status": "archived",
        "verdict": "mine",
        "subject": "=HYPERLINK(1)",
        "body": "@here",
        "n": -5,
        "at": "-5+1",
    }
    (tmp_path / "mails.json").write_text(json.dumps([given]))
    page.get_by_label("Choose a file").set_input_files(tmp_path / "mails.json")
    page.get_by_text("All 1 rows judged").wait_for()
    (row,) = csv.DictReader(io.StringIO(download(page, "Download CSV")))
    assert (row["status"], row["verdict"], row["loopai_status"]) == ("archived", "mine", "ok")
    assert row["loopai_verdict"] in {"spam", "ham"}
    assert [row[name] for name in ("subject", "body", "n", "at")] == ["'=HYPERLINK(1)", "'@here", "-5", "'-5+1"]
    assert json.loads(download(page, "Download JSONL"))["subject"] == "=HYPERLINK(1)"


def test_the_mail_behind_a_row_and_only_the_wrong_ones(page: Any, tmp_path: Path, mails: list[dict[str, str]]) -> None:
    """The table is cut to rows with a wrong verdict or an error; each row opens its e-mail, by mouse and keyboard."""
    given = (
        [{**mail, "label": "ham"} for mail in mails if mail["label"] == "spam"][:20] + mails[:20] + [{"subject": "?"}]
    )
    path = tmp_path / "mails.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    page.get_by_label("Choose a file").set_input_files(path)
    page.get_by_text("All 41 rows judged").wait_for()
    page.get_by_label("Only the wrong ones").check()
    wrong = int(page.locator("#compared").inner_text().split()[0]) + 1
    expect(page.locator("#latest tr")).to_have_count(wrong)
    assert page.locator("#latest .chip.ham").count() < wrong
    legible(page)
    first = page.locator("#latest tr").filter(has=page.locator(".wrong")).first
    number = int(first.locator("td").first.inner_text()) - 1
    first.get_by_role("button").click()
    dialog = page.get_by_role("dialog")
    assert dialog.locator("pre").text_content() == given[number]["body"]
    assert "labelled" in dialog.inner_text()
    legible(page)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert page.evaluate("document.activeElement.closest('#latest') !== null")
    page.get_by_label("Only the wrong ones").uncheck()
    expect(page.locator("#latest tr")).to_have_count(41)


def test_a_file_is_judged_while_nobody_watches(page: Any, url: str, mails: list[dict[str, str]]) -> None:
    """Uploaded, left, and found again with its progress; then downloaded. Another browser sees nothing of it."""
    given = [*mails[:1000], {"subject": "no text at all"}]
    body = "".join(json.dumps(row) + "\n" for row in given).encode()
    upload = {"name": "mails.jsonl", "mimeType": "application/x-ndjson", "buffer": body}
    page.get_by_label("Upload a file").set_input_files(upload)
    page.get_by_text("mails.jsonl is uploaded. You can leave the page.").wait_for()
    page.goto("about:blank")
    page.goto(url)
    run = page.get_by_label("Your runs").get_by_role("listitem")
    run.get_by_text("of 1,001 rows").wait_for()
    legible(page)
    run.get_by_text("1,001 of 1,001 rows · 1 error").wait_for()
    run.get_by_text("Finished").wait_for()
    assert float(re.search(r"([\d.]+) % right", run.inner_text())[1]) > 85  # type: ignore[index]  # it stands there
    legible(page)
    for name in ("CSV", "JSONL"):
        with page.expect_download() as download:
            run.get_by_role("link", name=name).click()
        text = Path(download.value.path()).read_text(encoding="utf-8")
        assert download.value.suggested_filename.endswith(f".{name.lower()}")
        rows = list(csv.DictReader(io.StringIO(text))) if name == "CSV" else list(map(json.loads, text.splitlines()))
        assert {row["loopai_key"] for row in rows} == {str(number) for number in range(1, 1002)}
    other = page.context.browser.new_context()
    assert other.request.get(f"{url}/api/runs").json()["runs"] == []
    other.close()
    run.get_by_role("button", name="Remove").click()
    run.wait_for(state="detached")
    page.reload()
    expect(page.get_by_label("Your runs").get_by_role("listitem")).to_have_count(0)


def test_everything_by_keyboard(page: Any, tmp_path: Path, mails: list[dict[str, str]]) -> None:
    """In the order of the page, with a focus that can be seen and is never lost."""
    # Heard from the start: the browser is told in time that we answer in the place of its own dialog.
    page.on("filechooser", lambda chooser: chooser.set_files(path))
    path = tmp_path / "mails.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in mails[:30]))
    for name in ("API", "Subject", "Text"):
        page.keyboard.press("Tab")
        assert page.evaluate("(document.activeElement.labels?.[0] ?? document.activeElement).innerText") == name
        outlined = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outlined == "solid"
    page.keyboard.type("Claim your prize now")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("status").filter(has_text="ms").wait_for()
    assert page.evaluate("document.activeElement.innerText") == "Judge"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    assert page.evaluate("getComputedStyle(document.querySelector('label[for=file]')).outlineStyle") == "solid"
    page.keyboard.press("Space")
    page.get_by_text("All 30 rows judged").wait_for()
    page.wait_for_function("document.activeElement.id === 'as-csv'")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert Path(download.value.path()).read_bytes().count(b"\r\n") >= 31
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.innerText") == "Another file"
    page.keyboard.press("Space")
    assert page.evaluate("document.activeElement.id") == "file"
