"""`--report`: one self-contained page about a run. The charts are drawn in `charts`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from datetime import datetime
from html import escape
from math import log
from pathlib import Path
from typing import Any, Union
from uuid import uuid4

from ..formats.sinks import check_writable, explain
from . import charts
from .charts import milliseconds, number, share
from .one_line import counted, one_line
from .progress import clock_time
from .quality import Quality, wilson
from .snapshot import Snapshot
from .statistics import ReportedRow, Statistics, Summary

_SERIES = (("ok", "ok"), ("errors", "bad"))

_ENDED = {
    "finished": ("Finished", "good"),
    "finished_before": ("Finished earlier", "good"),
    "max_errors": ("Stopped: too many errors", "stop"),
    "unreachable": ("Stopped: server unreachable", "stop"),
    "fatal_error": ("Stopped: refused by the server", "stop"),
    "interrupted": ("Interrupted", "stop"),
}

_STYLE = Path(__file__).with_name("report.css")

# Whatever a row, an error or a name contains, the page runs nothing, loads nothing and sends nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

_MOST_KINDS = 10
_MOST_MISTAKES = 6

_LONGEST = 100
"""Characters shown of a label: it may be a whole JSON object, and appears in each cell of its row and column."""


def write_report(path: Union[str, os.PathLike[str]], snapshot: Snapshot, summary: Summary) -> None:
    """Write the page atomically. Raises `OutputError`, which does not affect the run and its output."""
    place = Path(path)
    part = place.with_name(f"{place.name}.{uuid4().hex[:8]}.part")  # two processes may write the page of one run
    made = page(snapshot, summary, datetime.now().astimezone())
    try:
        if place.exists() and not place.is_file():
            # A pipe or device is written to, never replaced.
            place.write_text(made, encoding="utf-8", errors="replace")
            return
        # A lone surrogate, which JSON can hold, is not valid UTF-8.
        part.write_text(made, encoding="utf-8", errors="replace")
        os.replace(part, place)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise explain(error, f"the report {place}") from error


def check_report(path: Union[str, os.PathLike[str]]) -> None:
    """Check at the start that the page can be written. Raises `ConfigurationError`."""
    check_writable("report", Path(path))


def page(snapshot: Snapshot, summary: Summary, now: datetime) -> str:
    """Return the page as HTML."""
    state, css = _ENDED.get(summary.ended, (summary.ended, "stop"))
    tally = snapshot.statistics if snapshot.statistics is not None else Statistics(0.0)
    title = f"{_shown(snapshot.name or snapshot.task)}: {counted(tally.rows, 'row')}"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE.read_text(encoding='utf-8')}</style></head><body>",
        f'<header><span class="state {css}">{escape(state)}</span><h1>{escape(title)}</h1>',
        f"<p>{escape(_shown(snapshot.source or 'rows from a program'))} · {now:%Y-%m-%d %H:%M %Z}</p></header><main>",
        _outcome(tally),
        _tiles(tally, summary),
        '<div class="grid">',
        _throughput(tally, summary),
        _latency(tally),
        _errors(tally),
        _quality(tally.quality),
        _rows(tally),
        _options(snapshot),
        "</div></main>",
        f"<footer>Task {escape(_shown(snapshot.task))}. Made by loopai; the page loads nothing.</footer>",
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part)


def _shown(text: object) -> str:
    """Return a foreign text on one line, shortened."""
    return one_line(str(text), _LONGEST) or "(empty)"


def _section(name: str, title: str, told: str, *parts: str, wide: bool = False) -> str:
    css = ' class="wide"' if wide else ""
    told = f"<p>{escape(told)}</p>" if told else ""
    return (
        f'<section{css} aria-labelledby="{name}"><h2 id="{name}">{escape(title)}</h2>{told}{"".join(parts)}</section>'
    )


def _outcome(tally: Statistics) -> str:
    """Return the results of the rows as one bar."""
    ended = [
        (tally.ok, "ok", "ok"),
        (tally.doubtful, "idle", "doubtful"),
        (tally.errors, "bad", "errors"),
        (tally.cancelled, "idle", "cancelled"),
    ]
    if not any(count for count, _, _ in ended):
        return ""
    names = [(f"{count:,} {name}", css) for count, css, name in ended if count]
    return f'<div class="outcome">{charts.strip([(count, css) for count, css, _ in ended])}{charts.legend(names)}</div>'


def _tiles(tally: Statistics, summary: Summary) -> str:
    rows = tally.rows
    failed = f"{tally.errors / rows:.2%} of all" if tally.errors else "none"
    earlier = f"{summary.skipped:,} from an earlier run" if summary.skipped else "all in this run"
    tiles = [
        ("Rows", f"{rows:,}", earlier if rows else "none has ended"),
        ("Errors", f"{tally.errors:,}", failed),
        *([("Doubtful", f"{tally.doubtful:,}", f"{tally.doubtful / rows:.2%} of all")] if tally.doubtful else []),
        ("Rows a second", number(summary.rows_per_second), f"in {_duration(summary.seconds)}"),
    ]
    p50, p95 = tally.latencies.percentile(0.5), tally.latencies.percentile(0.95)
    if p50 is not None and p95 is not None:
        tiles.append(("Median latency", milliseconds(p50), f"95% within {milliseconds(p95)}"))
    if tally.quality is not None and tally.quality.accuracy is not None:
        tiles.insert(0, ("Accuracy", share(tally.quality.accuracy), _confidence(tally.quality)))
    if summary.cancelled:
        tiles.append(("Cancelled", f"{summary.cancelled:,}", "not run yet"))
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>" for name, value, note in tiles)
    return f'<dl class="tiles">{cells}</dl>'


def _confidence(quality: Quality) -> str:
    """Return the number of rows and the uncertainty: with few rows a share says little."""
    low, high = quality.interval or (0.0, 1.0)
    return f"over {counted(quality.rows, 'row')}; 95% sure: {low:.1%} to {high:.1%}"


def _duration(seconds: float) -> str:
    return clock_time(seconds) if seconds >= 10 else f"{seconds:.2g} s"


def _throughput(tally: Statistics, summary: Summary) -> str:
    line = tally.timeline
    if not any(ok or bad for ok, bad in line.spans):
        return ""
    # The last span may be incomplete: its rate is that of the part.
    widths = [line.width] * len(line.spans)
    widths[-1] = max(min(line.width, summary.seconds - line.width * (len(line.spans) - 1)), line.width / 10)
    bars = [
        (
            f"{_moment(place * line.width)}: {number(ok / width)} ok, {number(bad / width)} errors a second",
            (ok / width, bad / width),
        )
        for place, ((ok, bad), width) in enumerate(zip(line.spans, widths))
    ]
    whole = line.width * len(line.spans)
    times = charts.time_ticks(whole)
    in_parts = any(second != int(second) for second in times)
    axis = [(second / whole, f"{second:.3g} s" if in_parts else clock_time(second)) for second in times]
    top = max(sum(values) for _, values in bars)
    name = f"Rows that ended a second, over {_duration(summary.seconds)}: at most {number(top)}"
    return _section(
        "throughput",
        "Throughput",
        f"Rows that ended a second, by time; {line.width:g} s a column",
        charts.legend(_SERIES),
        charts.columns(bars, _SERIES, axis, name),
        wide=True,
    )


def _moment(second: float) -> str:
    return f"{second:.3g} s" if second != int(second) else clock_time(second)


def _latency(tally: Statistics) -> str:
    latencies = tally.latencies
    bars = latencies.bars()
    if not bars:
        return ""
    low, high = bars[0][0], bars[-1][1]

    def place(value: float) -> float:
        return (log(value) - log(low)) / (log(high) - log(low))

    made = [
        (f"{milliseconds(start)} to {milliseconds(end)}: {counted(rows, 'row')}", (float(rows),))
        for start, end, rows in bars
    ]
    found = [("mean", latencies.mean)]
    found += [(name, latencies.percentile(part)) for name, part in (("median", 0.5), ("95%", 0.95), ("99%", 0.99))]
    figures = [(name, value) for name, value in found if value is not None]
    marks = [(place(value), f"{name} {milliseconds(value)}") for name, value in figures if name in {"median", "95%"}]
    axis = [(place(value), milliseconds(value)) for value in charts.log_ticks(low, high)]
    told = ", ".join(f"{name} {milliseconds(value)}" for name, value in figures)
    return _section(
        "latency",
        "Latency",
        "Rows by their time at the server, on a logarithmic scale",
        charts.columns(made, [("rows", "ok")], axis, f"Rows by latency: {told}", marks),
        charts.table(
            "Latencies",
            ["measured", *(name for name, _ in figures)],
            [("at the server", [milliseconds(value) for _, value in figures])],
        ),
    )


def _errors(tally: Statistics) -> str:
    if not tally.kinds:
        if not tally.ok and not tally.doubtful:
            return _section("errors", "Errors", "No row has ended, so none has failed.")
        return _section(
            "errors", "Errors", "", '<p class="none"><i aria-hidden="true">✓</i>None: every row ended ok.</p>'
        )
    largest = sorted(tally.kinds.items(), key=lambda item: -item[1])[:_MOST_KINDS]
    rows = [(_shown(kind), count, _example(tally, kind)) for kind, count in largest]
    more = len(tally.kinds) - len(largest)
    told = "Rows by kind of error, largest first" + (f"; and {more} more" if more > 0 else "")
    return _section("errors", "Errors by kind", told, charts.ranking("Errors by kind", rows))


def _example(tally: Statistics, kind: str) -> str:
    if kind not in tally.examples:
        return ""
    key, text = tally.examples[kind]
    shown = _shown(text)
    return f"e.g. {_shown(key)}" if shown == _shown(kind) else f"e.g. {_shown(key)}: {shown}"


def _recall(scores: Mapping[str, Any]) -> str:
    if scores["recall"] is None:
        return "–"
    low, high = wilson(scores["recall"], scores["rows"])
    return f"{low:.0%} to {high:.0%}"


def _rows(tally: Statistics) -> str:
    """Return the rows that were wrong or failed, each expandable."""
    if not tally.reported:
        return ""
    wrong = 0 if tally.quality is None else tally.quality.wrong
    total = max(len(tally.reported), wrong + tally.errors)
    told = f"The first {len(tally.reported):,} of {total:,}" if total > len(tally.reported) else f"{total:,} in all"
    return _section("rows", "Rows that were wrong or failed", told, "".join(map(_row, tally.reported)), wide=True)


def _row(row: ReportedRow) -> str:
    said = row.error if row.error is not None else f"{row.output}, expected {row.expected}"
    cells = (("input", row.input), ("given", row.output), ("expected", row.expected), ("error", row.error))
    facts = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in cells if text is not None)
    return (
        f"<details><summary><b>{escape(_shown(row.key))}</b> {escape(_shown(said))}</summary>"
        f'<dl class="facts">{facts}</dl></details>'
    )


def _options(snapshot: Snapshot) -> str:
    """Return what was run, with the options that differ from their defaults."""
    if not snapshot.options:
        return ""
    facts = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(_shown(value))}</dd>" for name, value in snapshot.options.items()
    )
    return _section(
        "options", "Options", "Those that differ from their defaults", f'<dl class="facts">{facts}</dl>', wide=True
    )


def _quality(quality: Union[Quality, None]) -> str:
    if quality is None:
        return ""
    failed = f"Without {counted(quality.failed, 'row')} that failed." if quality.failed else ""
    if quality.accuracy is None:
        told = "No row has both an output and an expected label."
        return _section("quality", "Confusion matrix", f"{told} {failed}", wide=True)
    labels = [_shown(label) for label in quality.labels]
    counts = quality.matrix()
    lines = [
        (
            label,
            [*(share(scores[name]) for name in ("precision", "recall", "f1")), _recall(scores), f"{scores['rows']:,}"],
        )
        for label, scores in zip(labels, quality.classes().values())
    ]
    mistakes = [
        (f"{labels[down]} → {labels[across]}", count, f"{count / sum(line):.1%} of that label's rows")
        for down, line in enumerate(counts)
        for across, count in enumerate(line)
        if down != across and count
    ]
    mistakes.sort(key=lambda mistake: -mistake[1])
    head = ["class", "precision", "recall", "F1", "recall, 95% sure", "rows"]
    parts = [
        charts.matrix("Confusion matrix", labels, counts),
        f"<div><h3>Classes</h3>{charts.table('Classes', head, lines)}</div>",
    ]
    if len(labels) > 2 and mistakes:
        shown = charts.ranking("Most frequent mistakes", mistakes[:_MOST_MISTAKES])
        parts.append(f"<div><h3>Most frequent mistakes</h3>{shown}</div>")
    told = "How outputs compare with the expected column; the stronger the colour, the larger the share of a label"
    return _section(
        "quality",
        "Confusion matrix",
        f"{told}. {failed}",
        charts.legend([("right", "hue-right"), ("wrong", "hue-wrong")]),
        f'<div class="parts">{"".join(parts)}</div>',
        wide=True,
    )
