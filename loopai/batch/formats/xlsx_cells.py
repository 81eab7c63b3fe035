"""Find the non-empty cells of a sheet that have no value: errors, and formulas without a saved value.

`python-calamine`, which reads the values, returns them as empty cells. Rows are read in `xlsx`.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Optional
from xml.parsers import expat

from .packing import BLOCK

_WORKBOOK, _LINKS = "xl/workbook.xml", "xl/_rels/workbook.xml.rels"
# Every sheet with such cells contains one of these, however it is written.
_SIGNS = (b't="e"', b"t='e'", b"<f", b":f")
_LONGEST_SIGN = max(map(len, _SIGNS))


def cells_without_value(path: Path, sheet: str) -> dict[int, str]:
    """Return what is wrong with the first such cell of each row, by row number; empty for an unusual workbook."""
    try:
        with zipfile.ZipFile(path) as archive:
            part = _part_of(archive, sheet)
            if part is None or not _may_have_any(archive, part):
                return {}
            cells, parser = _Cells(), _parser()
            parser.StartElementHandler, parser.EndElementHandler = cells.start, cells.end
            parser.CharacterDataHandler = cells.data
            with archive.open(part) as file:
                parser.ParseFile(file)
    except (expat.ExpatError, zipfile.BadZipFile, KeyError, OSError, ValueError):
        return {}  # the library decides whether it can be read
    return cells.found


def _part_of(archive: zipfile.ZipFile, sheet: str) -> Optional[str]:
    """The file in the workbook that holds the sheet."""
    links = {link.get("Id"): link.get("Target", "") for _, link in _elements(archive.read(_LINKS))}
    for kind, attributes in _elements(archive.read(_WORKBOOK)):
        if kind == "sheet" and attributes.get("name") == sheet:
            link = next((value for name, value in attributes.items() if name.endswith("}id")), None)
            target = links.get(link, "")
            return target[1:] if target.startswith("/") else f"xl/{target}"
    return None


def _elements(text: bytes) -> list[tuple[str, dict[str, str]]]:
    """The elements of an XML document, without their namespaces, with their attributes."""
    found: list[tuple[str, dict[str, str]]] = []
    parser = _parser()
    parser.StartElementHandler = lambda name, attributes: found.append((_local(name), attributes))
    parser.Parse(text, True)  # the last part
    return found


def _parser() -> Any:
    parser = expat.ParserCreate(namespace_separator="}")
    parser.StartDoctypeDeclHandler = _refuse
    return parser


def _refuse(*_: object) -> None:
    raise ValueError("a workbook declares no types of documents, which entities need to grow")


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _may_have_any(archive: zipfile.ZipFile, part: str) -> bool:
    """Whether a quick search finds a sign of such cells."""
    with archive.open(part) as file:
        rest = b""
        while block := file.read(BLOCK):
            found = rest + block
            if any(sign in found for sign in _SIGNS):
                return True
            rest = found[-_LONGEST_SIGN:]
    return False


class _Cells:
    """Finds the cells in a sheet's XML while it is parsed."""

    def __init__(self) -> None:
        self.found: dict[int, str] = {}
        self._row = 0
        self._cell: dict[str, str] = {}
        self._formula = self._reads = False
        self._value = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        kind = _local(name)
        if kind == "row":
            self._row = int(attributes.get("r", self._row + 1))
        elif kind == "c":
            self._cell, self._formula, self._value = attributes, False, ""
        elif kind == "f":
            self._formula = True
        elif kind == "v":
            self._reads = True

    def data(self, text: str) -> None:
        """Text within an element."""
        if self._reads:
            self._value += text

    def end(self, name: str) -> None:
        """An element ends."""
        kind = _local(name)
        if kind == "v":
            self._reads = False
        elif kind == "c":
            place, type_ = self._cell.get("r", "a cell"), self._cell.get("t")
            if type_ == "e":
                self.found.setdefault(self._row, f"{place} is {self._value or 'an error'}")
            elif self._formula and not self._value and type_ != "str":
                told = "is a formula without a saved value: open the workbook in Excel, and save it"
                self.found.setdefault(self._row, f"{place} {told}")
