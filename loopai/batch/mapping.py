"""Make the program's input from a row's columns: `text=body`, dotted paths, constants (`lang:="en"`). No files here."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Callable, Optional, Union

from ..exceptions import OptionError

Columns = Mapping[str, Any]


class Unmapped(ValueError):
    """A row lacks a column that the mapping names. The message says which."""


def path_reader(path: str) -> Callable[[Columns], Any]:
    """Return a function that reads `path` from a row: a column of that name, or a dotted path into nested values.

    The function raises `Unmapped` if there is none.
    """
    parts = path.split(".")
    if len(parts) == 1:

        def read(columns: Columns) -> Any:
            try:
                return columns[path]
            except KeyError:
                raise Unmapped(f"there is no column {path!r}{nearest(path, columns)}") from None

        return read

    def walk(columns: Columns) -> Any:
        if path in columns:
            return columns[path]
        value: Any = columns
        for depth, part in enumerate(parts):
            if isinstance(value, Mapping) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
                value = value[int(part)]
            else:
                place = ".".join(parts[:depth])
                told = f"nothing named {part!r} in {place!r}" if place else f"no column {part!r}"
                hint = f", a list of {len(value)}" if isinstance(value, list) else nearest(part, value)
                raise Unmapped(f"{path}: there is {told}{hint}")
        return value

    return walk


def nearest(name: str, among: Any) -> str:
    """Return `; did you mean …?` if `among` has a name similar to `name`, otherwise the columns."""
    names = [str(key) for key in among] if isinstance(among, (Mapping, list, tuple)) else []
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f" (columns: {', '.join(names[:12])})" if names else ""


class InputMapping:
    """How the input of each row is made.

    `parts` are texts: `text=body` takes column `body` as member `text`; both sides may be dotted
    (`mail.text=message.body`); `lang:="en"` is a constant, written as JSON; `=body` makes the column itself the
    whole input. A mapping `{"text": "body"}` means the same as `text=body`. Without parts, the input is the row without
    the columns in `without`.

    Raises `ConfigurationError` for any other part.
    """

    def __init__(
        self, parts: Union[Iterable[str], Mapping[str, str], None] = None, without: Iterable[str] = ()
    ) -> None:
        texts = [f"{to}={path}" for to, path in parts.items()] if isinstance(parts, Mapping) else list(parts or ())
        self._without = frozenset(without)
        self._whole: Optional[Callable[[Columns], Any]] = None
        self._whole_path = ""
        self._constants: list[tuple[list[str], str]] = []
        self._columns: list[tuple[list[str], str, Callable[[Columns], Any]]] = []
        for text in texts:
            self._add(text)
        targets = [tuple(target) for target, *_ in self._columns] + [tuple(target) for target, _ in self._constants]
        for number, target in enumerate(targets):
            for other in targets[:number]:
                if target[: len(other)] == other or other[: len(target)] == target:
                    name = ".".join(target)
                    raise OptionError(
                        "{mapping} names {member!r} twice, or a part of it: a member has one source", member=name
                    )
        if self._whole_path and len(texts) > 1:
            raise OptionError("{mapping} =COLUMN makes that column the whole input: pass no other beside it")
        self.parts = sorted(texts)
        flat = all(len(target) == 1 for target, *_ in self._columns) and not self._constants
        self._flat = [(target[0], read) for target, _, read in self._columns] if flat and self._columns else None

    def _add(self, text: str) -> None:
        target, sign, path = text.partition("=")
        if not sign or not path.strip():
            raise OptionError("{mapping} {text!r}: write MEMBER=COLUMN, or MEMBER:=JSON for a constant", text=text)
        if target.endswith(":"):
            name = target[:-1].strip()
            try:
                json.loads(path, parse_constant=_no_constant)
            except ValueError:
                raise OptionError(
                    "{mapping} {text!r}: {constant!r} is not JSON; a text needs quotes: {member}:='\"{constant}\"'",
                    text=text,
                    constant=path,
                    member=name,
                ) from None
            if not name:
                raise OptionError("{mapping} {text!r}: a constant needs the name of a member before `:=`", text=text)
            self._constants.append((name.split("."), path))
        elif not target.strip():
            self._whole = path_reader(path.strip())
            self._whole_path = path.strip()
        else:
            self._columns.append((target.strip().split("."), path.strip(), path_reader(path.strip())))

    @property
    def leaves_out(self) -> bool:
        """Whether the input is the row without some of its columns."""
        return bool(self._without) and not self.parts

    @property
    def sources(self) -> list[str]:
        """The columns or dotted paths that are read."""
        return [self._whole_path] if self._whole is not None else [path for _, path, _ in self._columns]

    @property
    def members(self) -> frozenset[str]:
        """The members that the input gets; none if the input is the row or a column."""
        targets = [target for target, *_ in self._columns] + [target for target, _ in self._constants]
        return frozenset(target[0] for target in targets)

    def check_schema(self, input_schema: Any, header: Iterable[str] = ()) -> None:
        """Raise `OptionError` if the task's input has none of the members made from rows with `header`."""
        named = input_schema.get("properties") if isinstance(input_schema, Mapping) else None
        made = list(self.members) if self.parts else [name for name in header if name not in self._without]
        if not isinstance(named, Mapping) or not named or not made or not named.keys().isdisjoint(made):
            return
        subject = "{mapping} makes" if self.parts else "the rows have"
        raise OptionError(
            subject + " {made}, and the task's input has {wanted}: every row would fail. Pass {mapping} {first}=COLUMN",
            made=", ".join(sorted(made)[:12]),
            wanted=", ".join(list(map(str, named))[:12]),
            first=next(iter(named)),
        )

    def check(self, header: Iterable[str]) -> None:
        """Raise `ConfigurationError` for a column that is not in the header."""
        names = list(header)
        for path in self.sources:
            if path not in names and path.split(".")[0] not in names:
                raise OptionError(
                    "{mapping}: the input has no column {column!r}{nearest}", column=path, nearest=nearest(path, names)
                )

    def __call__(self, columns: Columns) -> Any:
        """Return the input for a row with these columns. Raises `Unmapped`."""
        if self._flat is not None:
            return {name: read(columns) for name, read in self._flat}
        if self._whole is not None:
            return self._whole(columns)
        if not self._columns and not self._constants:
            if not self._without:
                return columns
            return {name: value for name, value in columns.items() if name not in self._without}
        made: dict[str, Any] = {}
        for target, _, read in self._columns:
            _put(made, target, read(columns))
        for target, text in self._constants:
            # Parsed for each row, so that rows share no objects.
            _put(made, target, json.loads(text))
        return made


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _put(made: dict[str, Any], target: list[str], value: Any) -> None:
    for part in target[:-1]:
        made = made.setdefault(part, {})
    made[target[-1]] = value
