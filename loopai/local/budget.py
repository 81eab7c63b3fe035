"""`SharedBudget`: limits how much of something is in use, in one event loop. The user decides what is counted."""

from __future__ import annotations

import asyncio


class SharedBudget:
    """A total that its users share."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._used = 0
        self._changed = asyncio.Event()

    def take(self, amount: int) -> bool:
        """Take an amount now; return False, and take nothing, if less is left."""
        if self._used + amount > self._total:
            return False
        self._used += amount
        return True

    async def wait(self, amount: int) -> None:
        """Wait until the amount is available, and take it. More than the total is granted if nothing else is in use."""
        while self._used and not self.take(amount):
            self._changed.clear()
            await self._changed.wait()
        if not self._used:
            self._used = amount

    def give_back(self, amount: int) -> None:
        """Return an amount."""
        self._used -= amount
        self._changed.set()
