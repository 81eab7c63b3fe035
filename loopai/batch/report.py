"""`--report`: one page about a run that needs nothing but itself. What a chart looks like is in `charts`."""

from __future__ import annotations

import os
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Union

from .charts import columns, legend, matrix, milliseconds, number, ranking, share, table
from .progress import clock_time
from .tally import Summary, Tally

if TYPE_CHECKING:
    from .runs import Run

_SERIES = (("ok", "ok"), ("errors", "bad"))

_ENDED = {
    "finished": ("Finished", "good"),
    "finished before": ("Finished earlier", "good"),
    "max_errors": ("Stopped: too many errors", "stop"),
    "unreachable": ("Stopped: server unreachable", "stop"),
    "refused": ("Stopped: refused by the server", "stop"),
    "interrupted": ("Interrupted", "stop"),
}

_STYLE = Path(__file__).with_name("report.css")


def write_report(path: Union[str, os.PathLike[str]], run: Run, summary: Summary) -> None:
    """Write the page, whole or not at all. Raises `OSError`."""
    place = Path(path)
    part = place.with_name(place.name + ".part")
    part.write_text(page(run.facts, run.tally, summary, datetime.now().astimezone()), encoding="utf-8")
    os.replace(part, place)


def page(facts: dict[str, object], tally: Tally, summary: Summary, now: datetime) -> str:
    """The page as HTML. `facts` are the run's: task, input, mapping."""
    state, css = _ENDED.get(summary.ended, (summary.ended, "stop"))
    given = facts.get("input")
    name = given.get("name") if isinstance(given, dict) else None
    title = f"{facts.get('name') or facts.get('task')}: {tally.ok + tally.errors:,} rows"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE.read_text(encoding='utf-8')}</style></head><body><main>",
        f'<header><span class="state {css}">{escape(state)}</span><h1>{escape(title)}</h1>',
        f"<p>{escape(str(name or 'rows from a program'))} · {now:%Y-%m-%d %H:%M %Z}</p></header>",
        _tiles(tally, summary),
        '<div class="grid">',
        _throughput(tally, summary),
        _latency(tally),
        _errors(tally),
        _quality(tally),
        "</div>",
        f"<footer>Task {escape(str(facts.get('task')))}. Made by loopai; the page loads nothing.</footer>",
        "</main></body></html>",
    ]
    return "\n".join(part for part in parts if part)


def _tiles(tally: Tally, summary: Summary) -> str:
    rows = tally.ok + tally.errors
    failed = f"{tally.errors / rows:.2%} of all" if rows else ""
    earlier = f"{summary.skipped:,} from an earlier run" if summary.skipped else "all in this run"
    tiles = [
        ("Rows", f"{rows:,}", earlier),
        ("Errors", f"{tally.errors:,}", failed),
        ("Rows a second", number(summary.rows_per_second), f"in {clock_time(summary.seconds)}"),
    ]
    p50, p95 = tally.latencies.percentile(0.5), tally.latencies.percentile(0.95)
    if p50 is not None and p95 is not None:
        tiles.append(("Median latency", milliseconds(p50), f"95 % within {milliseconds(p95)}"))
    if tally.quality is not None and tally.quality.accuracy is not None:
        tiles.insert(0, ("Accuracy", share(tally.quality.accuracy), f"over {tally.quality.rows:,} rows"))
    if summary.cancelled:
        tiles.append(("Cancelled", f"{summary.cancelled:,}", "not run yet"))
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>" for name, value, note in tiles)
    return f'<dl class="tiles">{cells}</dl>'


def _throughput(tally: Tally, summary: Summary) -> str:
    line = tally.timeline
    if not line.spans:
        return ""
    # The last span may be a part of one: its rate is over the part.
    widths = [line.width] * len(line.spans)
    widths[-1] = max(min(line.width, summary.seconds - line.width * (len(line.spans) - 1)), line.width / 10)
    bars = [
        (
            f"{clock_time(place * line.width)}: {number(ok / width)} ok, {number(bad / width)} errors a second",
            (ok / width, bad / width),
        )
        for place, ((ok, bad), width) in enumerate(zip(line.spans, widths))
    ]
    chart = columns(bars, _SERIES, ["0:00", clock_time(summary.seconds)], "Rows ended a second, by time")
    told = f"Rows ended a second, {number(line.width)} s a column"
    return f'<section class="wide"><h2>Throughput</h2><p>{told}</p>{legend(_SERIES)}{chart}</section>'


def _latency(tally: Tally) -> str:
    bars = tally.latencies.bars()
    if not bars:
        return ""
    low, high = bars[0][0], bars[-1][1]
    made = [
        (f"{milliseconds(start)} to {milliseconds(end)}: {rows:,} rows", (float(rows),)) for start, end, rows in bars
    ]
    marks = []
    figures = []
    for name, part in (("median", 0.5), ("95 %", 0.95), ("99 %", 0.99)):
        value = tally.latencies.percentile(part)
        if value is not None:
            figures.append((name, milliseconds(value)))
            if part < 0.99:
                marks.append((_place(value, low, high), f"{name} {milliseconds(value)}"))
    chart = columns(
        made, [("rows", "ok")], [milliseconds(low), milliseconds((low * high) ** 0.5), milliseconds(high)],
        "Rows by latency at the server", marks,
    )  # fmt: skip
    rows = table(["share of rows", "within"], figures)
    return (
        "<section><h2>Latency</h2><p>Rows by their time at the server; each column is the same factor wide</p>"
        f"{chart}<details><summary>Figures</summary>{rows}</details></section>"
    )


def _place(value: float, low: float, high: float) -> float:
    from math import log

    return (log(value) - log(low)) / (log(high) - log(low)) if high > low else 0.5


def _errors(tally: Tally) -> str:
    if not tally.kinds:
        return "<section><h2>Errors</h2><p>None: every row ended ok.</p></section>"
    largest = dict(sorted(tally.kinds.items(), key=lambda item: -item[1])[:10])
    notes = {kind: f"e.g. {key}: {text[:160]}" for kind, (key, text) in tally.examples.items() if kind in largest}
    more = len(tally.kinds) - len(largest)
    told = "Rows by kind of error, largest first" + (f"; {more} smaller kinds are not shown" if more > 0 else "")
    return f"<section><h2>Errors by kind</h2><p>{told}</p>{ranking(largest, notes)}</section>"


def _quality(tally: Tally) -> str:
    quality = tally.quality
    if quality is None or quality.accuracy is None:
        return ""
    lines = [
        [label, share(scores["precision"]), share(scores["recall"]), share(scores["f1"]), f"{scores['rows']:,}"]
        for label, scores in quality.classes().items()
    ]
    failed = f" {quality.failed:,} rows that failed are not in it." if quality.failed else ""
    return (
        f'<section class="wide"><h2>Confusion matrix</h2><p>How outputs compare with the expected column.{failed}</p>'
        f'<div class="pair">{matrix(quality.labels, quality.matrix())}'
        f"{table(['class', 'precision', 'recall', 'F1', 'rows'], lines)}</div></section>"
    )
