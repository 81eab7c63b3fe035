"""The page that `loopai batch --report` writes, in a browser without network: light and dark, wide and narrow."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from playwright.sync_api import expect

from loopai import SyncLoopaiClient
from loopai.shell.command import run_command
from loopai.shell.options import CommandOptions
from loopai.testing import FakeLoopai, ProgramError

from .conftest import COMMAND, PATIENCE, VIEWS, environment, legible

pytestmark = pytest.mark.slow

SCREENS = {
    **VIEWS,
    "tablet, light": {"viewport": {"width": 768, "height": 1024}, "color_scheme": "light"},
    "tablet, dark": {"viewport": {"width": 768, "height": 1024}, "color_scheme": "dark"},
}
HOSTILE = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
PROGRAM = """
def main(input):
    if input["text"] == "":
        raise ValueError("there is no text")
    if len(input["text"]) > 40:
        raise ValueError("too long: " + str(len(input["text"])))
    return {"label": "spam" if "prize" in input["text"] else "ham"}
"""


CUT = """
() => [...document.querySelectorAll("h1, header p, dt, dd, h2, h3, section > p, li, .flag, .axis span, .ticks span")]
  .map((element) => [element.textContent, element.getBoundingClientRect()])
  .filter(([, box]) => box.width > 0 && (box.left < 0 || box.right > document.documentElement.clientWidth + 0.5))
  .map(([text]) => text)
"""


def views(page: Any) -> Iterator[str]:
    """The page as it is on each screen; gives its name."""
    for name, view in SCREENS.items():
        page.set_viewport_size(view["viewport"])
        page.emulate_media(color_scheme=view.get("color_scheme"))
        yield name


def sound(page: Any) -> None:
    """On each screen nothing sticks out and each text can be read; headings and names are right."""
    for view in views(page):
        legible(page, view)
        assert page.evaluate(CUT) == [], view
    levels = page.locator("h1, h2, h3").evaluate_all("(all) => all.map((each) => Number(each.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))
    for role in ("banner", "main", "contentinfo"):
        expect(page.get_by_role(role)).to_have_count(1)
    unnamed = page.locator("section:not([aria-labelledby]), svg:not([aria-label]), table:not(:has(caption))")
    expect(unnamed).to_have_count(0)


def tiles(page: Any) -> dict[str, list[str]]:
    """What each figure at the top is called, with its value and its note."""
    return {
        tile.locator("dt").inner_text(): tile.locator("dd").inner_text().split("\n")
        for tile in page.locator(".tiles > div").all()
    }


def cells(page: Any, name: str) -> list[list[str]]:
    """The rows of the table of that name, with the texts as they are in the page."""
    table = page.get_by_role("table", name=name)
    return table.locator("tbody tr").evaluate_all(
        "(rows) => rows.map((row) => [...row.children].map((cell) => cell.textContent))"
    )


# Through the command line


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory, cli_server: str) -> tuple[Path, dict[str, Any]]:
    """A report of the command line, and the summary that it said."""
    folder = tmp_path_factory.mktemp("reported")
    with SyncLoopaiClient(cli_server) as client:
        task = client.create_task("mails", "Spam or not", {}, {}, sampling_rate=0)
        client.push_program(task.id, PROGRAM)
    texts = ["lunch at noon", "claim your prize", "", "x" * 50, "a prize for ham", "see you"]
    labels = ["ham", "spam", "ham", "spam", "ham", "spam"]
    rows = [{"id": f"mail-{n}", "text": texts[n % 6], "label": labels[n % 6]} for n in range(1_200)]
    (folder / "mails.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = subprocess.run(
        [*COMMAND, "batch", "mails", "mails.jsonl", "-m", "text=text", "-o", "out.jsonl", "--expect", "label",
         "--report", "report.html", "--json", "--progress", "none", "--base-url", cli_server],
        cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert not (folder / "report.html.part").exists()
    return folder / "report.html", json.loads(done.stderr)["summary"]


def test_the_report_shows_the_run(opened: Callable[[str], Any], reported: tuple[Path, dict[str, Any]]) -> None:
    """All four charts are there, drawn and named, with the figures of the summary."""
    path, summary = reported
    page = opened(path.as_uri())
    sound(page)
    assert page.title() == "mails: 1,200 rows"
    assert page.get_by_role("heading", level=1).inner_text() == page.title()
    expect(page.get_by_text("Finished", exact=True)).to_be_visible()
    names = page.get_by_role("heading", level=2).all_inner_texts()
    charts = ["Throughput", "Latency", "Errors by kind", "Confusion matrix"]
    assert names == [*charts, "Rows that were wrong or failed", "Options"]
    assert [page.get_by_role("region", name=name).count() for name in names] == [1] * len(names)

    shown = tiles(page)
    assert shown["Rows"] == ["1,200", "all in this run"]
    assert shown["Errors"] == [f"{summary['errors']:,}", f"{summary['errors'] / 1200:.2%} of all"]
    assert shown["Accuracy"] == [f"{summary['quality']['accuracy']:.1%}", "over 800 rows; 95% sure: 46.5% to 53.5%"]
    assert float(shown["Rows a second"][0].replace(",", "")) == pytest.approx(summary["rows_per_s"], rel=0.02, abs=0.6)
    assert page.locator(".outcome li").all_inner_texts() == ["800 ok", "400 errors"]

    expect(page.get_by_role("img", name=re.compile("Rows that ended a second, over .*: at most "))).to_have_count(1)
    expect(page.get_by_role("img", name=re.compile("Rows by latency: mean .*, median .*, 95% "))).to_have_count(1)
    for view in views(page):
        for name in ("Throughput", "Latency"):
            drawn = page.get_by_role("region", name=name).locator("svg rect.ok, svg rect.bad")
            heights = drawn.evaluate_all("(all) => all.map((each) => each.getBoundingClientRect().height)")
            assert max(heights) > 60, f"{name}, {view}: the columns are to be seen"
        bars = page.locator(".ranking .bar i").evaluate_all("(all) => all.map((each) => each.offsetWidth)")
        assert min(bars) > 100, view
        cells_of = page.locator("td.right, td.wrong")
        fills = cells_of.evaluate_all("(all) => all.map((each) => getComputedStyle(each).backgroundColor)")
        assert len(set(fills)) == 2, f"{view}: right and wrong differ"

    latencies = dict(zip(["", "mean", "median", "95%", "99%"], cells(page, "Latencies")[0]))
    for name, value in (("mean", "mean"), ("median", "p50"), ("95%", "p95"), ("99%", "p99")):
        assert milliseconds(latencies[name]) == pytest.approx(summary["latency_ms"][value], rel=0.01)

    errors = page.get_by_role("list", name="Errors by kind").get_by_role("listitem")
    kinds = {item.locator("span").inner_text(): int(item.locator("b").inner_text()) for item in errors.all()}
    assert kinds == summary["errors_by_kind"] == {"there is no text": 200, "too long: …": 200}

    quality = summary["quality"]
    matrix = cells(page, "Confusion matrix: expected down, predicted across")
    assert [row[0] for row in matrix] == quality["labels"] == ["ham", "spam"]
    assert [[int(cell) for cell in row[1:]] for row in matrix] == quality["confusion"] == [[200, 200], [200, 200]]
    assert cells(page, "Classes") == [
        [label, *(f"{scores[name]:.1%}" for name in ("precision", "recall", "f1")), "45% to 55%", f"{scores['rows']}"]
        for label, scores in quality["classes"].items()
    ]


def milliseconds(text: str) -> float:
    figure, unit = text.split()
    return float(figure) * {"µs": 0.001, "ms": 1.0, "s": 1000.0}[unit]


# Runs of other kinds


class Reports:
    """Runs rows through a program and gives the report's path."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, program: Any, rows: list[dict[str, Any]], task: str = "sort", **options: Any) -> Path:
        fake = FakeLoopai()
        fake.task(task).computes(program)
        given = self._folder / "in.jsonl"
        given.write_text("".join(json.dumps(row) + "\n" for row in rows))
        report = self._folder / "report.html"
        asked = CommandOptions(
            **{
                "task": task,
                "input": str(given),
                "output": str(self._folder / "out.jsonl"),
                "mapping": ["n=n"],
                "report": str(report),
                "progress": "none",
                "mode": "overwrite",
                **options,
            }
        )
        with fake.client() as client, open(os.devnull, "w", encoding="utf-8") as nowhere:
            run_command(asked, client, stderr=nowhere)
        return report


@pytest.fixture
def reports(tmp_path: Path) -> Reports:
    return Reports(tmp_path)


def test_hostile_texts_are_texts(opened: Callable[[str], Any], reports: Reports) -> None:
    """Names of tasks, keys, errors and labels are shown as they are, and nothing in them runs."""

    def program(given: Any) -> Any:
        if given["n"] % 5 == 0:
            raise ProgramError(f"no {HOSTILE}\n\x1b[31m second line")
        return {"label": HOSTILE if given["n"] % 2 else "</td></table></section>"}

    rows = [{"n": n, "id": f"<b>{n}", "label": HOSTILE} for n in range(40)]
    page = opened(reports(program, rows, task=f"t {HOSTILE}", expect="label", key="id").as_uri())
    sound(page)
    expect(page.locator("script, img")).to_have_count(0)
    assert page.title().startswith("t <script>document.title")
    assert "onerror=" in page.get_by_role("heading", level=1).inner_text()
    assert "<script>" in page.get_by_role("list", name="Errors by kind").inner_text()
    assert cells(page, "Classes")[0][0] == "</td></table></section>"


def test_forty_classes_are_a_map(opened: Callable[[str], Any], reports: Reports) -> None:
    """Every label has its row and column, the mistakes that matter are named, and the page is no wider."""

    def program(given: Any) -> Any:
        wrong = given["n"] % 7 == 0
        return {"label": f"category {(given['n'] + wrong) % 40:02}"}

    rows = [{"n": n, "label": f"category {n % 40:02}"} for n in range(2_000)]
    page = opened(reports(program, rows, expect="label").as_uri())
    sound(page)
    assert len(cells(page, "Confusion matrix: expected down, predicted across")) == 40
    assert len(cells(page, "Classes")) == 40
    mistakes = page.get_by_role("list", name="Most frequent mistakes").get_by_role("listitem")
    expect(mistakes).to_have_count(6)
    assert mistakes.first.locator("b").inner_text() == "8"
    cell = page.locator("td.right").first.bounding_box()
    assert cell["width"] >= 12
    assert cell["height"] >= 12


def test_labels_without_end_do_not_break_the_page(opened: Callable[[str], Any], reports: Reports) -> None:
    """They are cut, and can be told apart."""

    def program(given: Any) -> Any:
        return {"label": ["x" * 5_000, "a label of several words " * 200, "", "short"][given["n"] % 4]}

    labels = ["x" * 5_000, "short"]
    path = reports(program, [{"n": n, "label": labels[n % 2]} for n in range(100)], expect="label")
    assert path.stat().st_size < 100_000
    page = opened(path.as_uri())
    sound(page)
    shown = [row[0] for row in cells(page, "Classes")]
    assert len(set(shown)) == 4
    assert "(empty)" in shown
    assert all(len(label) <= 100 for label in shown)
    widest = page.locator(".matrix td.right").evaluate_all("(all) => Math.max(...all.map((each) => each.offsetWidth))")
    assert widest < 150


def test_a_run_of_nothing_but_errors(opened: Callable[[str], Any], reports: Reports) -> None:
    """There is no matrix to show, and that is said."""

    def program(given: Any) -> Any:
        raise ProgramError("no")

    path = reports(program, [{"n": n, "label": "a"} for n in range(300)], expect="label", max_errors="150")
    page = opened(path.as_uri())
    sound(page)
    expect(page.get_by_text("Stopped: too many errors")).to_be_visible()
    assert page.locator("rect.ok").count() > 0, "latencies are there all the same"
    region = page.get_by_role("region", name="Confusion matrix")
    assert "No row has both an output and an expected label." in region.inner_text()
    expect(page.get_by_role("table", name="Confusion matrix")).to_have_count(0)


def test_a_run_without_right_answers(opened: Callable[[str], Any], reports: Reports) -> None:
    """Without `--expect` there is no accuracy and no matrix; without errors that is said."""
    page = opened(reports(lambda given: given["n"], [{"n": n} for n in range(250)]).as_uri())
    sound(page)
    assert page.get_by_role("heading", level=2).all_inner_texts() == ["Throughput", "Latency", "Errors", "Options"]
    expect(page.get_by_text("None: every row ended ok.")).to_be_visible()
    assert "Accuracy" not in tiles(page)


def test_a_run_without_rows(opened: Callable[[str], Any], reports: Reports) -> None:
    """No chart is better than an empty one."""
    page = opened(reports(lambda given: 1, [], mapping=[]).as_uri())
    sound(page)
    expect(page.locator("svg, table")).to_have_count(0)
    assert tiles(page)["Rows"] == ["0", "none has ended"]
    expect(page.get_by_text("No row has ended, so none has failed.")).to_be_visible()
