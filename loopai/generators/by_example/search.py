"""The cheapest concatenation of expressions and constants that gives all outputs, and rivals that cost little more."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .expressions import Expression, constant

_MOST_STATES = 4000
_LONGEST_CONSTANT = 40
_PER_PART = 0.6


@dataclass(frozen=True)
class Found:
    """A concatenation. The simpler it is, the lower its `cost`."""

    parts: tuple[Expression, ...]
    cost: float

    def evaluate(self, value: Any) -> str:
        """Return the output for one input. Raises ValueError if the expressions do not apply."""
        return "".join(part.evaluate(value) for part in self.parts)


def constant_cost(text: str) -> float:
    """Return what a constant costs: little for separators, more for words."""
    words = sum(1 for letter in text if letter.isalnum())
    return 0.5 + 0.15 * (len(text) - words) + 0.75 * words


def concatenate(
    pool: Sequence[Expression],
    outputs: Sequence[str],
    rows: Sequence[int],
    *,
    most_constant: Callable[[str], float] = constant_cost,
) -> Found | None:
    """Return the cheapest concatenation that gives the outputs of the examples `rows`; None if there is none."""
    wanted = [outputs[row] for row in rows]
    by_first: dict[str, list[tuple[tuple[str, ...], Expression]]] = {}
    seen: dict[tuple[str, ...], float] = {}
    for expression in pool:
        values = tuple(expression.values[row] for row in rows)
        if any(value is None or value not in output for value, output in zip(values, wanted)) or not any(values):
            continue
        if seen.get(values, float("inf")) <= expression.cost:
            continue
        seen[values] = expression.cost
        by_first.setdefault(values[0], []).append((values, expression))
    if not any(wanted):
        return Found((constant("", len(outputs), constant_cost("")),), constant_cost(""))
    start = (0,) * len(rows)
    goal = tuple(len(output) for output in wanted)
    costs: dict[tuple[int, ...], float] = {start: 0.0}
    came: dict[tuple[int, ...], tuple[tuple[int, ...], Expression]] = {}
    queue: list[tuple[float, int, tuple[int, ...]]] = [(0.0, 0, start)]
    count = 0
    done: set[tuple[int, ...]] = set()
    while queue:
        cost, _, state = heapq.heappop(queue)
        if state in done:
            continue
        done.add(state)
        if state == goal:
            break
        if len(done) > _MOST_STATES:
            return None
        after_constant = state in came and not came[state][1].operands and came[state][1].path is None
        first = wanted[0]
        steps: list[tuple[tuple[int, ...], Expression, float]] = []
        for stop in range(state[0], len(first) + 1):
            for values, expression in by_first.get(first[state[0] : stop], ()):
                if all(output.startswith(value, at) for output, value, at in zip(wanted, values, state)):
                    moved = tuple(at + len(value) for at, value in zip(state, values))
                    steps.append((moved, expression, expression.cost))
        if not after_constant:
            for size in range(1, _LONGEST_CONSTANT + 1):
                text = first[state[0] : state[0] + size]
                if len(text) < size or not all(output.startswith(text, at) for output, at in zip(wanted, state)):
                    break
                one = constant(text, len(outputs), most_constant(text))
                steps.append((tuple(at + size for at in state), one, one.cost))
        for moved, expression, own in steps:
            total = cost + own + _PER_PART
            if total < costs.get(moved, float("inf")) and moved != state:
                costs[moved] = total
                came[moved] = (state, expression)
                count += 1
                heapq.heappush(queue, (total, count, moved))
    if goal not in came:
        return None
    parts: list[Expression] = []
    state = goal
    while state != start:
        state, expression = came[state]
        parts.append(expression)
    return Found(tuple(reversed(parts)), costs[goal])


def rivals(found: Found, pool: Sequence[Expression], rows: Sequence[int], within: float) -> list[Found]:
    """Return the concatenations that differ in one part, fit equally well and cost at most `within` more."""
    others: list[Found] = []
    for place, part in enumerate(found.parts):
        values = [part.values[row] for row in rows]
        for rival in pool:
            if rival is part or rival.cost > part.cost + within:
                continue
            if [rival.values[row] for row in rows] == values:
                parts = (*found.parts[:place], rival, *found.parts[place + 1 :])
                others.append(Found(parts, found.cost + rival.cost - part.cost))
    return others
