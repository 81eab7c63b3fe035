"""Make rows from a caller's values or a source's records: key, input, finished rows, duplicate keys. Does no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Callable, Optional, Union

from ...exceptions import ConfigurationError, ValidationException
from ..formats.opening import Record
from ..mapping import InputMapping, Unmapped, path_reader
from ..resume.journal import Journal
from ..resume.keys import KeyIndex, digest
from ..rows import DUPLICATE, UNMAPPED, UNREADABLE, UNSENDABLE, Row

Key = Union[str, Callable[[Any], Any], None]
Make = Callable[[Any, int], Row]
Clean = Callable[[Any, int], Any]
"""Makes a row from a value and its number from 1; raises `ValidationException` for a missing value."""


def key_text(value: Any, path: str) -> str:
    """Return a key as text. Raises `Unmapped` for a value that cannot be a key."""
    if isinstance(value, str):
        if value:
            return value
        raise Unmapped(f"its key {path!r} is empty")
    if value is None or isinstance(value, (dict, list)):
        raise Unmapped(f"its key {path!r} is {'null' if value is None else 'no text or number'}")
    return str(value)


def from_records(mapping: InputMapping, key: Optional[str]) -> Make:
    """Make rows from a source's records; without `key`, a row's key is its number from 1."""
    read = None if key is None else path_reader(key)

    def make(record: Record, number: int) -> Row:
        line, columns, problem = record
        if columns is None:
            # A row without a key is identified by its line.
            return Row(f"line {line}" if key else str(number), None, None, line, problem, UNREADABLE)
        name = str(number)
        try:
            if read is not None:
                name = key_text(read(columns), key or "")
            return Row(name, mapping(columns), columns, line)
        except Unmapped as error:
            named = f"line {line}" if key and name == str(number) else name
            return Row(named, None, columns, line, f"line {line}: {error}", UNMAPPED)

    return make


def from_values(key: Key, mapping: Optional[InputMapping] = None, clean: Optional[Clean] = None) -> Make:
    """Make rows from a caller's iterable: each value is an input, a mapping of columns, or a `Row`.

    `key` is a (dotted) member of the value, or a function of it; without it a row's key is its number from 1. `clean`
    converts the rows of a DataFrame.
    """
    read = path_reader(key) if isinstance(key, str) else key
    named = key if isinstance(key, str) else "key"

    def make(value: Any, number: int) -> Row:
        if isinstance(value, Row):
            if value.line is None:
                value.line = number
            return value
        # The caller's function gets the caller's value, such as a row of `itertuples` with its attributes.
        name, given, columns = str(number), value, None
        try:
            if clean is not None:
                value = clean(value, number)
                if callable(key) and type(given) is dict:
                    given = value
            columns = value if isinstance(value, dict) else None
            if read is not None:
                if isinstance(key, str) and not isinstance(value, Mapping):
                    raise Unmapped(f"key={key!r} needs rows that are mappings: give a function for others")
                name = key_text(read(given if callable(key) else value), named)
            if mapping is None:
                return Row(name, value, columns, number)
            if not isinstance(value, Mapping):
                raise Unmapped("a mapping needs rows that are mappings")
            return Row(name, mapping(value), columns, number)
        except Unmapped as error:
            return Row(name, None, columns, number, f"row {number}: {error}", UNMAPPED)
        except ValidationException as error:
            return Row(name, None, None, number, error.message, UNSENDABLE)

    return make


class Reader:
    """Turns pulled values into rows to run: skips finished rows, and fails duplicate keys."""

    def __init__(
        self,
        make: Make,
        journal: Optional[Journal] = None,
        *,
        check_keys: bool = False,
        limit: Optional[int] = None,
    ) -> None:
        if limit is not None and limit < 0:
            raise ConfigurationError(f"limit must be a whole number from 0, not {limit}")
        self.number = 0
        self.skipped = 0
        self._make = make
        self._journal = journal
        self._limit = limit
        self._seen = KeyIndex() if check_keys else None

    @property
    def full(self) -> bool:
        """Whether `limit` rows were read."""
        return self._limit is not None and self.number >= self._limit

    def make(self, values: Iterable[Any]) -> list[Row]:
        """Return the rows made from `values`, up to the limit."""
        most = None if self._limit is None else max(0, self._limit - self.number)
        make, start = self._make, self.number + 1
        rows = [make(value, number) for number, value in enumerate(islice(values, most), start)]
        self.number += len(rows)
        return rows

    @property
    def looks_up(self) -> bool:
        """Whether `select` reads files."""
        return self._seen is not None or self._journal is not None

    def select(self, rows: list[Row]) -> list[Row]:
        """Return the rows to run, and those that fail with their own error. Blocks."""
        if self._seen is not None:
            self._mark_duplicates(rows, self._seen)
        if self._journal is None:
            return rows
        ended = self._journal.ended
        kept = [row for row in rows if not ended(row)]
        self.skipped += len(rows) - len(kept)
        return kept

    def _mark_duplicates(self, rows: list[Row], seen: KeyIndex) -> None:
        for place, first in seen.put_new([(digest(row.key), row.line or 0) for row in rows]).items():
            row = rows[place]
            row.error = f"the key {row.key!r} is on lines {first} and {row.line}; the first was taken"
            row.code = DUPLICATE

    def close(self) -> None:
        """Delete the temporary file."""
        if self._seen is not None:
            self._seen.close()
