"""Key digests on disk: find duplicates, and look up finished rows, without holding a million keys in memory."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple, Optional

DIGEST_BYTES = 16
"""Bytes of a key's digest: with 16, two of a billion keys collide with a probability of 1 in 10^21."""

_PARTITIONS = 256
_BLOCK = 512
"""Hashes of one partition that are written together; 256 × 512 × 8 bytes are the 1 MB that this takes in memory."""


def digest(key: str) -> bytes:
    """Return the digest of `key` for a journal, which has the same size for every key."""
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


class Duplicate(NamedTuple):
    """A key that two rows share, with their line numbers."""

    key: str
    first: int
    second: int

    def __str__(self) -> str:
        return f"{self.key!r} on lines {self.first} and {self.second}"


class DuplicateSearch:
    """Finds keys that occur twice in a source that can be read twice.

    Pass each key to `add`; `suspects` then returns the hashes that occurred twice, usually none. Only if there are any
    is a second reading needed: `confirm` compares the keys themselves.
    """

    def __init__(self) -> None:
        self._buffers = [array("Q") for _ in range(_PARTITIONS)]
        self._blocks: list[list[int]] = [[] for _ in range(_PARTITIONS)]
        self._file = tempfile.TemporaryFile(prefix="loopai-keys-")  # noqa: SIM115  # closed by `close`
        self._end = 0

    def add(self, key: str) -> None:
        """Add one key."""
        # Python's keyed hash suffices: hashes stay in this process, and candidates are compared as texts.
        number = hash(key) & 0xFFFFFFFFFFFFFFFF
        buffer = self._buffers[number & 255]
        buffer.append(number)
        if len(buffer) >= _BLOCK:
            self._blocks[number & 255].append(self._end)
            self._file.write(buffer.tobytes())
            self._end += len(buffer) * 8
            del buffer[:]

    def suspects(self) -> set[int]:
        """Hashes that occurred twice; at most 1,000 of them."""
        found: set[int] = set()
        for buffer, blocks in zip(self._buffers, self._blocks):
            seen: set[int] = set()
            for place in blocks:
                self._file.seek(place)
                stored = array("Q")
                stored.frombytes(self._file.read(_BLOCK * 8))
                _gather(stored, seen, found)
            _gather(buffer, seen, found)
            if len(found) > 1000:
                break
        return found

    def close(self) -> None:
        """Delete the temporary file."""
        self._file.close()


def _gather(numbers: Iterable[int], seen: set[int], found: set[int]) -> None:
    for number in numbers:
        if number in seen:
            found.add(number)
        else:
            seen.add(number)


def confirm(suspects: set[int], keys: Iterable[tuple[str, int]], most: int = 10) -> list[Duplicate]:
    """Return the real duplicates among `(key, line)` pairs with a suspect hash; at most `most`."""
    lines: dict[str, int] = {}
    found: list[Duplicate] = []
    for key, line in keys:
        if hash(key) & 0xFFFFFFFFFFFFFFFF in suspects:
            if key in lines:
                found.append(Duplicate(key, lines[key], line))
                if len(found) >= most:
                    break
            else:
                lines[key] = line
    return found


class KeyIndex:
    """Digests on disk, each with a number, in an SQLite file that is deleted when the process ends."""

    def __init__(self) -> None:
        import sqlite3

        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        # At most 2 MB of pages in memory; durability does not matter, as the file is deleted with the process.
        for pragma in ("cache_size = -2000", "temp_store = FILE", "journal_mode = OFF", "synchronous = OFF"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute("CREATE TABLE keys (digest BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def put(self, pairs: Iterable[tuple[bytes, int]]) -> None:
        """Set the number of each digest."""
        self._database.executemany("INSERT OR REPLACE INTO keys VALUES (?, ?)", pairs)

    def get(self, digest: bytes) -> Optional[int]:
        """Return the digest's number, `None` if it was never stored."""
        found = self._database.execute("SELECT number FROM keys WHERE digest = ?", (digest,)).fetchone()
        return None if found is None else int(found[0])

    def put_new(self, pairs: Sequence[tuple[bytes, int]]) -> dict[int, int]:
        """Set the number of digests that have none; for the others return their place in `pairs` → existing number."""
        before = self._database.total_changes
        self._database.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?)", pairs)
        if self._database.total_changes - before == len(pairs):
            return {}
        known = {}
        for place, (found, number) in enumerate(pairs):
            first = self.get(found)
            if first is not None and first != number:
                known[place] = first
        return known

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM keys").fetchone()[0])

    def close(self) -> None:
        """Delete the temporary file."""
        self._database.close()
