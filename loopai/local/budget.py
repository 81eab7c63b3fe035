"""`SharedBudget`: how much of something is in use, for one event loop. What is counted is its user's business."""

from __future__ import annotations

import asyncio


class SharedBudget:
    """So much at a time, in sum."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._used = 0
        self._changed = asyncio.Event()

    def take(self, amount: int) -> bool:
        """Take so much now; False, and nothing taken, where that is more than is left."""
        if self._used + amount > self._total:
            return False
        self._used += amount
        return True

    async def wait(self, amount: int) -> None:
        """Take so much as soon as it is left. More than there is at all is taken when nobody else has any."""
        while self._used and not self.take(amount):
            self._changed.clear()
            await self._changed.wait()
        if not self._used:
            self._used = amount

    def give_back(self, amount: int) -> None:
        """Give back what was taken."""
        self._used -= amount
        self._changed.set()
