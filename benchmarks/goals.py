"""Goals as they were stated."""

from __future__ import annotations

from dataclasses import dataclass

from .measuring import Goal


@dataclass(frozen=True)
class TimesLess(Goal):
    """At most the baseline divided by this factor."""

    def __init__(self, times: float) -> None:
        super().__init__(1 / times)

    def __str__(self) -> str:
        return f"≤ 1/{1 / self.at_most:g} ×"


@dataclass(frozen=True)
class TimesAndMore(Goal):
    """At most this multiple of the baseline, plus an amount in the row's unit."""

    more: float = 0.0

    def met(self, figure: float, ratio: float) -> bool:
        return figure <= self.at_most * figure / ratio + self.more

    def __str__(self) -> str:
        return f"≤ {self.at_most:g} × + {self.more:,g}"
