"""A least-recently-used cache, bounded by number and by weight. What may go stale is its user's business."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LRUCache(Generic[K, V]):
    """The values last used, by key: at most `most` of them, and `heaviest` in sum. For any number of threads."""

    def __init__(self, most: int, heaviest: int) -> None:
        self._most = most
        self._heaviest = heaviest
        self._weight = 0
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """The value, `None` where there is none or it was pushed out."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: K, value: V, weight: int) -> V:
        """Keep a value and give it back. One heavier than all together may be is not kept."""
        with self._lock:
            self._drop(key)
            if weight <= self._heaviest:
                self._values[key] = (value, weight)
                self._weight += weight
            while len(self._values) > self._most or self._weight > self._heaviest:
                self._drop(next(iter(self._values)))
        return value

    def discard(self, key: K) -> None:
        """Drop a value, if it is there."""
        with self._lock:
            self._drop(key)

    def _drop(self, key: K) -> None:
        if key in self._values:
            self._weight -= self._values.pop(key)[1]
