"""A least-recently-used cache, limited by number and weight. Invalidation is up to the user."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LRUCache(Generic[K, V]):
    """The most recently used values by key: at most `most`, and at most `heaviest` in total. Thread-safe."""

    def __init__(self, most: int, heaviest: int) -> None:
        self._most = most
        self._heaviest = heaviest
        self._weight = 0
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """Return the value; `None` if there is none or it was evicted."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: K, value: V, weight: int) -> V:
        """Store a value and return it. A value above the total weight is not stored."""
        with self._lock:
            self._drop(key)
            if weight <= self._heaviest:
                self._values[key] = (value, weight)
                self._weight += weight
            while len(self._values) > self._most or self._weight > self._heaviest:
                self._drop(next(iter(self._values)))
        return value

    def discard(self, key: K) -> None:
        """Remove a value, if it is there."""
        with self._lock:
            self._drop(key)

    def _drop(self, key: K) -> None:
        if key in self._values:
            self._weight -= self._values.pop(key)[1]
