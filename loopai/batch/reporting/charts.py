"""Charts as fragments of HTML with inline SVG: no script, no library, readable at any width. The page is `report`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape
from typing import Optional

from .one_line import counted

_HEIGHT = 100.0

_WIDEST = 9.0
"""Maximum width of a column, in per cent of the plot: two columns of full width would look like a wall."""

FEW_LABELS = 6
"""Up to this number of labels, a confusion matrix shows them upright, with space around its figures."""

MANY_LABELS = 14
"""Above this, a confusion matrix shows colours, and its figures on hover and to screen readers."""

_SHARE = re.compile(r"\d+\.\d%")

_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)


def number(value: float) -> str:
    """Return a figure in few characters: `0.35`, `12`, `1,200`, `1.2M`."""
    if value >= 1_000_000:
        return f"{value / 1_000_000:.3g}M"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if value < 10 else f"{value:.3g}"


def milliseconds(value: float) -> str:
    """Return a latency with a suitable unit."""
    if value >= 1000:
        return f"{value / 1000:.3g} s"
    return f"{value:.3g} ms" if value >= 1 else f"{value * 1000:.3g} µs"


def share(value: Optional[float]) -> str:
    """Return a share as per cent, or a dash if there is none."""
    return "–" if value is None else f"{value:.1%}"


def _ticks(top: float) -> list[float]:
    """Round values from 0 up to `top` or just above."""
    if top <= 0:
        return [0.0, 1.0]
    size = 10.0 ** math.floor(math.log10(top / 3))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor * 4 >= top)
    return [step * place for place in range(math.ceil(top / step) + 1)]


def time_ticks(seconds: float) -> list[float]:
    """At most seven round times from 0 to `seconds`."""
    step = next((step for step in _SECONDS if step * 6 >= seconds), math.ceil(seconds / 6 / 86400) * 86400)
    return [step * place for place in range(int(seconds / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return a few round values between two positive ones, by their factor; the two themselves if there are none."""
    decades = math.log10(high / low)
    factors = (1, 2, 5) if decades <= 1.5 else (1, 3) if decades <= 3 else (1,)
    tens = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [factor * 10.0**ten for ten in tens for factor in factors if low <= factor * 10.0**ten <= high]
    return found if len(found) > 1 else [low, high]


def columns(
    bars: Sequence[tuple[str, Sequence[float]]],
    series: Sequence[tuple[str, str]],
    axis: Sequence[tuple[float, str]],
    name: str,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """Return stacked columns: a label and one value per series for each. `name` describes the chart.

    `series` are names and CSS classes; `axis` are positions from left to right (0 to 1) with their labels; `marks` the
    same, with lines.
    """
    top = max((sum(values) for _, values in bars), default=0.0)
    ticks = _ticks(top)
    scale = _HEIGHT / ticks[-1]
    width = 100.0 / max(1, len(bars))
    # Half a per cent of the plot between columns, but never more than a quarter of one.
    drawn = min(_WIDEST, width - min(0.4, width / 4))
    parts = []
    for tick in ticks[1:]:
        y = _HEIGHT - tick * scale
        parts.append(f'<line class="rule" x1="0" x2="100" y1="{y:.2f}" y2="{y:.2f}"/>')
    for place, (label, values) in enumerate(bars):
        base = _HEIGHT
        inner = []
        for (_, css), value in zip(series, values):
            height = value * scale
            base -= height
            if height > 0:
                x = place * width + (width - drawn) / 2
                size = f'width="{drawn:.3f}" height="{height:.2f}"'
                inner.append(f'<rect class="{css}" x="{x:.3f}" y="{base:.2f}" {size}/>')
        hit = f'<rect class="hit" x="{place * width:.3f}" y="0" width="{width:.3f}" height="100"/>'
        parts.append(f"<g><title>{escape(label)}</title>{hit}{''.join(inner)}</g>")
    for at, _ in marks:
        parts.append(f'<line class="mark" x1="{at * 100:.2f}" x2="{at * 100:.2f}" y1="0" y2="100"/>')
    labels = "".join(f'<span style="bottom:{tick / ticks[-1] * 100:.1f}%">{number(tick)}</span>' for tick in ticks)
    flags = "".join(
        f'<span class="{"flag left" if at > 0.62 else "flag"}" style="left:{at:.2%};top:{row * 1.25}rem">'
        f"{escape(text)}</span>"
        for row, (at, text) in enumerate(marks)
    )
    below = "".join(f'<span style="left:{at:.2%}">{escape(text)}</span>' for at, text in axis)
    return (
        f'<div class="plot"><div class="ticks" aria-hidden="true">{labels}</div><div class="area">'
        f'<svg role="img" aria-label="{escape(name)}" viewBox="0 0 100 100" preserveAspectRatio="none">'
        f"{''.join(parts)}</svg>"
        f'{flags}</div><div class="axis" aria-hidden="true">{below}</div></div>'
    )


def legend(series: Sequence[tuple[str, str]]) -> str:
    """The meaning of each colour: name and CSS class."""
    items = "".join(f'<li><i class="{css}"></i>{escape(name)}</li>' for name, css in series)
    return f'<ul class="legend">{items}</ul>'


def strip(parts: Sequence[tuple[int, str]]) -> str:
    """Return one bar of parts (a count and a CSS class) side by side; a separate legend explains them."""
    pieces = "".join(f'<i class="{css}" style="flex-grow:{count}"></i>' for count, css in parts if count)
    return f'<div class="strip" aria-hidden="true">{pieces}</div>'


def ranking(name: str, values: Sequence[tuple[str, int, str]]) -> str:
    """Return horizontal bars: a label, a count and an optional note for each."""
    top = max((count for _, count, _ in values), default=1)
    rows = []
    for label, count, note in values:
        more = f'<div class="note">{escape(note)}</div>' if note else ""
        rows.append(
            f'<li><div class="what"><span>{escape(label)}</span><b>{count:,}</b></div>'
            f'<div class="bar"><i style="width:{max(0.5, count / top * 100):.1f}%"></i></div>{more}</li>'
        )
    return f'<ol class="ranking" aria-label="{escape(name)}">{"".join(rows)}</ol>'


def matrix(name: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Return the confusion matrix: expected labels down, predicted across, shaded by share of the expected rows."""
    size = "few" if len(labels) <= FEW_LABELS else "some" if len(labels) <= MANY_LABELS else "many"
    shown = [escape(label) for label in labels]
    head = "".join(f'<th scope="col" title="{label}"><span>{label}</span></th>' for label in shown)
    rows = []
    for place, (label, line) in enumerate(zip(shown, counts)):
        total = sum(line)
        cells = []
        for other, count in enumerate(line):
            part = count / total if total else 0.0
            css = ("right" if other == place else "wrong") + ("" if count else " zero")
            # A square root, so that a few wrong rows among thousands can be seen.
            shade = round(math.sqrt(part) * 100)
            title = f"expected {label}, predicted {shown[other]}: {counted(count, 'row')}, {part:.1%}"
            cells.append(f'<td class="{css}" style="--shade:{shade}%" title="{title}"><span>{count:,}</span></td>')
        rows.append(f'<tr><th scope="row" title="{label}"><span>{label}</span></th>{"".join(cells)}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(name)}">'
        f'<table class="matrix {size}" style="--labels:{len(labels)}">'
        f"<caption>{escape(name)}: expected down, predicted across</caption><thead>"
        f'<tr><td></td><th class="across" colspan="{len(labels)}"><span>predicted</span></th></tr>'
        f'<tr><td class="down">expected</td>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def table(name: str, head: Sequence[str], lines: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return a table: a heading and cells for each line. A share (`97.0%`) is also drawn as a bar."""
    top = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    body = []
    for label, cells in lines:
        drawn = "".join(
            f'<td><span class="meter" style="--part:{cell}">{cell}</span></td>'
            if _SHARE.fullmatch(cell)
            else f"<td>{escape(cell)}</td>"
            for cell in cells
        )
        name_of = f'<th scope="row" title="{escape(label)}"><span>{escape(label)}</span></th>'
        body.append(f"<tr>{name_of}{drawn}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(name)}"><table class="figures">'
        f"<caption>{escape(name)}</caption><thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )
