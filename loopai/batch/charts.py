"""Charts as fragments of HTML with inline SVG: no script, no library, readable at any width. The page is `report`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Optional

_HEIGHT = 100.0


def number(value: float) -> str:
    """A figure in few characters: `0.35`, `12`, `1,200`, `1.2M`."""
    if value >= 1_000_000:
        return f"{value / 1_000_000:.3g}M"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if value < 10 else f"{value:.3g}"


def milliseconds(value: float) -> str:
    """A latency with the unit that suits it."""
    if value >= 1000:
        return f"{value / 1000:.3g} s"
    return f"{value:.3g} ms" if value >= 1 else f"{value * 1000:.3g} µs"


def _ticks(top: float) -> list[float]:
    """Round values from 0 up to `top` or just above."""
    if top <= 0:
        return [0.0, 1.0]
    size = 10.0 ** math.floor(math.log10(top / 3))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor * 4 >= top)
    return [step * place for place in range(math.ceil(top / step) + 1)]


def columns(
    bars: Sequence[tuple[str, Sequence[float]]],
    series: Sequence[tuple[str, str]],
    ends: Sequence[str],
    name: str,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """Stacked columns: for each what it is called and one value a series.

    `series` are name and CSS class; `ends` the labels under the axis; `marks` places (0 to 1) with a label each.
    """
    top = max((sum(values) for _, values in bars), default=0.0)
    ticks = _ticks(top)
    scale = _HEIGHT / ticks[-1]
    width = 100.0 / max(1, len(bars))
    # Two per cent of the plot between columns, but never more than a quarter of one.
    gap = min(0.4, width / 4)
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
                x = place * width + gap / 2
                size = f'width="{width - gap:.3f}" height="{height:.2f}"'
                inner.append(f'<rect class="{css}" x="{x:.3f}" y="{base:.2f}" {size}/>')
        hit = f'<rect class="hit" x="{place * width:.3f}" y="0" width="{width:.3f}" height="100"/>'
        parts.append(f"<g><title>{escape(label)}</title>{hit}{''.join(inner)}</g>")
    for at, _ in marks:
        parts.append(f'<line class="mark" x1="{at * 100:.2f}" x2="{at * 100:.2f}" y1="0" y2="100"/>')
    labels = "".join(f'<span style="bottom:{tick / ticks[-1] * 100:.1f}%">{number(tick)}</span>' for tick in ticks)
    flags = "".join(
        f'<span class="{"flag left" if at > 0.8 else "flag"}" style="left:{at:.2%};top:{row * 1.25}rem">'
        f"{escape(text)}</span>"
        for row, (at, text) in enumerate(marks)
    )
    axis = "".join(f"<span>{escape(end)}</span>" for end in ends)
    return (
        f'<div class="plot"><div class="ticks" aria-hidden="true">{labels}</div><div class="area">'
        f'<svg role="img" aria-label="{escape(name)}" viewBox="0 0 100 100" preserveAspectRatio="none">'
        f"{''.join(parts)}</svg>"
        f'{flags}</div><div class="ends" aria-hidden="true">{axis}</div></div>'
    )


def legend(series: Sequence[tuple[str, str]]) -> str:
    """What each colour stands for."""
    items = "".join(f'<li><i class="{css}"></i>{escape(name)}</li>' for name, css in series)
    return f'<ul class="legend">{items}</ul>'


def ranking(values: Mapping[str, int], notes: Mapping[str, str]) -> str:
    """Bars lying down, largest first, each with its count; `notes` say more of some."""
    top = max(values.values(), default=1)
    rows = []
    for label, count in values.items():
        note = f'<div class="note">{escape(notes[label])}</div>' if label in notes else ""
        rows.append(
            f'<li><div class="what"><span>{escape(label)}</span><b>{count:,}</b></div>'
            f'<div class="bar"><i style="width:{max(0.5, count / top * 100):.1f}%"></i></div>{note}</li>'
        )
    return f'<ol class="ranking">{"".join(rows)}</ol>'


def matrix(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Expected labels down, predicted across; shaded by the share of the expected label's rows."""
    head = "".join(f'<th scope="col">{escape(label)}</th>' for label in labels)
    rows = []
    for place, (label, line) in enumerate(zip(labels, counts)):
        total = sum(line)
        cells = []
        for other, count in enumerate(line):
            share = count / total if total else 0.0
            css = "right" if other == place else "wrong"
            # A square root, so that a few wrong rows among thousands can be seen.
            shade = round(math.sqrt(share) * 100)
            title = f"expected {label}, predicted {labels[other]}: {count:,} rows, {share:.1%}"
            strong = " strong" if shade > 60 else ""
            text = f"{count:,}" if count else '<span class="zero">0</span>'
            cells.append(f'<td class="{css}{strong}" style="--shade:{shade}%" title="{escape(title)}">{text}</td>')
        rows.append(f'<tr><th scope="row">{escape(label)}</th>{"".join(cells)}</tr>')
    return (
        '<div class="scroll"><table class="matrix"><caption>Down: expected. Across: predicted.</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table whose first column names the line."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(line[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in line[1:])}</tr>'
        for line in lines
    )
    return (
        f'<div class="scroll"><table class="figures"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def share(value: Optional[float]) -> str:
    """A share as per cent, a dash where there is none."""
    return "–" if value is None else f"{value:.1%}"
