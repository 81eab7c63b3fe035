"""Goals in the words of those who set them."""

from __future__ import annotations

from dataclasses import dataclass

from .measuring import Goal


@dataclass(frozen=True)
class TimesLess(Goal):
    """At least so many times less than the baseline."""

    def __init__(self, times: float) -> None:
        super().__init__(1 / times)

    def __str__(self) -> str:
        return f"≤ 1/{1 / self.at_most:g} ×"
