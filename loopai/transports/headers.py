"""A response's headers, decoded on first use: for most replies they are never used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Callable, Optional


class LateHeaders(Mapping[str, str]):
    """Headers by their names in lower case; values of the same name are joined by commas.

    `read` returns names and values, and is called once.
    """

    __slots__ = ("_found", "_read")

    def __init__(self, read: Callable[[], Iterable[tuple[str, str]]]) -> None:
        self._read = read
        self._found: Optional[dict[str, str]] = None

    def __getitem__(self, name: str) -> str:
        return self._texts()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts())

    def __len__(self) -> int:
        return len(self._texts())

    def __repr__(self) -> str:
        return f"<headers {', '.join(sorted(self))}>"

    def __reduce__(self) -> tuple[type[dict[str, str]], tuple[dict[str, str]]]:
        return dict, (self._texts(),)

    def _texts(self) -> dict[str, str]:
        if self._found is None:
            by_name: dict[str, str] = {}
            for name, text in self._read():
                by_name[name] = f"{by_name[name]}, {text}" if name in by_name else text
            self._found, self._read = by_name, by_name.items
        return self._found
