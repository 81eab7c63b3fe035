"""Rows, goals, the registry of groups, and the alternating rounds. The groups' modules define what is measured."""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

ROUNDS = 5


@dataclass(frozen=True)
class Goal:
    """A row's goal: its figure, or its ratio to the baseline, is `at_most` this."""

    at_most: float
    of: str = "ratio"

    def met(self, figure: float, ratio: float) -> bool:
        return (ratio if self.of == "ratio" else figure) <= self.at_most

    def __str__(self) -> str:
        return f"≤ {self.at_most:g}" + (" ×" if self.of == "ratio" else "")


@dataclass(frozen=True)
class Row:
    """One comparison. `measure` and `measure_baseline` each return one round's figure, in `unit`."""

    name: str
    measure: Callable[[], float]
    baseline: str
    measure_baseline: Callable[[], float]
    unit: str
    goal: Goal


@dataclass(frozen=True)
class Result:
    """A row's medians over its rounds; `ratio` is the median of the rounds' ratios, free of drift between rounds."""

    group: str
    row: Row
    figures: list[float]
    baselines: list[float]
    figure: float = field(init=False)
    baseline: float = field(init=False)
    ratio: float = field(init=False)

    def __post_init__(self) -> None:
        ratios = [_ratio(mine, other) for mine, other in zip(self.figures, self.baselines, strict=True)]
        for name, values in (("figure", self.figures), ("baseline", self.baselines), ("ratio", ratios)):
            object.__setattr__(self, name, statistics.median(values))

    @property
    def met(self) -> bool:
        return self.row.goal.met(self.figure, self.ratio)


def _ratio(figure: float, baseline: float) -> float:
    """The figure divided by the baseline, which may be zero (nothing wrong)."""
    if baseline:
        return figure / baseline
    return math.inf if figure else 1.0


Group = Callable[[bool], AbstractContextManager[list[Row]]]
GROUPS: dict[str, Group] = {}


def group(name: str) -> Callable[[Callable[[bool], Iterator[list[Row]]]], Group]:
    """Register a generator that sets up, yields its rows and tears down; its argument says whether the run is quick."""

    def register(make: Callable[[bool], Iterator[list[Row]]]) -> Group:
        GROUPS[name] = contextmanager(make)
        return GROUPS[name]

    return register


def run(name: str, quick: bool) -> Iterator[Result]:
    """Measure a group's rows, alternating with their baselines, so that other load on the machine affects both."""
    with GROUPS[name](quick) as rows:
        for row in rows:
            figures, baselines = [], []
            for _ in range(1 if quick else ROUNDS):
                gc.collect()
                figures.append(row.measure())
                gc.collect()
                baselines.append(row.measure_baseline())
            yield Result(name, row, figures, baselines)
