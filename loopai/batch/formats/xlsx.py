"""Rows of a sheet in an Excel workbook, read by `python-calamine`. Cells have the values that Excel last showed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Optional

from pydantic_core import to_jsonable_python

from ...exceptions import ConfigurationError, OptionError
from .columns import named, numbered
from .csv import Dialect
from .packing import ZippedFile
from .source import FromInput, Input, Record
from .xlsx_cells import cells_without_value

_MISLEADING = (".xls", ".xla", ".xlsb", ".xlam", ".ods")
"""Suffixes that the library trusts, whatever the file contains."""


def calamine() -> Any:
    """Return the library. Raises `ConfigurationError` if it is not installed."""
    try:
        import python_calamine
    except ImportError:
        raise ConfigurationError("reading .xlsx needs python-calamine: pip install python-calamine") from None
    return python_calamine


class XlsxSource(FromInput):
    """The rows of a workbook's only sheet, or of the sheet named `sheet`; `line` is the row's number in Excel.

    Empty cells are `None`, empty rows are skipped, and formulas have their saved values; a row fails if a cell has an
    error or a formula without a saved value. The first non-empty row names the columns, unless the dialect says
    `no_header`. Raises `ConfigurationError`.
    """

    most_bytes = 1_000_000_000
    """Most bytes that a workbook may decompress to: the library holds the sheet in memory."""

    def __init__(self, given: Input, sheet: Optional[str], dialect: Dialect) -> None:
        super().__init__(given)
        self._calamine = calamine()
        if given.path is None or given.packed:
            raise ConfigurationError(f"{given.name}: a compressed .xlsx is not supported: unpack it first")
        size = ZippedFile(given.path, given.name).size
        if size > self.most_bytes:
            raise ConfigurationError(
                f"{given.name} unpacks to {size:,} bytes, more than {self.most_bytes:,}: save it as CSV"
            )
        self._path = str(given.path)
        self._skip = dialect.skip_lines
        self._no_header = dialect.no_header
        self._rows = self._read = 0
        self._sheet = self._named_sheet(sheet)
        self._flaws = cells_without_value(given.path, self._sheet)
        first = next(self._filled(), None)
        if first is None:
            raise ConfigurationError(f"{self.name}: sheet {self._sheet!r} is empty")
        self._begin, cells = first
        self.header: Optional[list[str]] = numbered(len(cells))
        if self._no_header:
            self._begin -= 1
        else:
            texts = ["" if cell == "" else str(_value(cell)).strip() for cell in cells]
            if self._begin in self._flaws:
                raise ConfigurationError(f"{self.name}: row {self._begin}: {self._flaws[self._begin]}")
            self.header = named(texts, self.name, self._begin, least=1)

    @property
    def reading(self) -> dict[str, Any]:
        """See `FromInput`."""
        return {"sheet": self._sheet, "skip_lines": self._skip, "no_header": self._no_header}

    def _workbook(self) -> Any:
        # The library raises its own exceptions, and Rust panics for a file that is not what it seems.
        try:
            if self._path.lower().endswith(_MISLEADING):
                with open(self._path, "rb") as file:
                    return self._calamine.CalamineWorkbook.from_filelike(file)
            return self._calamine.CalamineWorkbook.from_path(self._path)
        except (self._calamine.CalamineError, OSError, ValueError) as error:
            raise ConfigurationError(f"{self.name} cannot be read: {error}") from None

    def _named_sheet(self, sheet: Optional[str]) -> str:
        workbook = self._workbook()
        visible, worksheet = self._calamine.SheetVisibleEnum.Visible, self._calamine.SheetTypeEnum.WorkSheet
        names = [
            found.name
            for found in workbook.sheets_metadata
            if found.typ == worksheet and (sheet is not None or found.visible == visible)
        ]
        workbook.close()
        if sheet is None and len(names) == 1:
            return str(names[0])
        if sheet is not None and sheet in names:
            return sheet
        listed = ", ".join(map(repr, names))
        if sheet is None:
            raise OptionError("{name} has the sheets {listed}: choose one with {sheet}", name=self.name, listed=listed)
        raise OptionError(
            "{sheet}: {name} has no sheet {wanted!r} (sheets: {listed})", name=self.name, wanted=sheet, listed=listed
        )

    def _filled(self) -> Iterator[tuple[int, list[Any]]]:
        """The rows that are not empty, with their numbers in Excel."""
        workbook = self._workbook()
        try:
            sheet = workbook.get_sheet_by_name(self._sheet)
            if sheet.start is None:
                return  # empty: early versions of the library panic
            self._rows = sheet.total_height
            for number, cells in enumerate(sheet.iter_rows(), 1):
                self._read += 1
                if number > self._skip and (number in self._flaws or any(cell != "" for cell in cells)):
                    yield number, cells
        except self._calamine.CalamineError as error:
            raise ConfigurationError(f"{self.name}: sheet {self._sheet!r} cannot be read: {error}") from None
        finally:
            workbook.close()

    def __iter__(self) -> Iterator[Record]:
        """Read the rows in order."""
        self._read = 0
        names: Sequence[str] = self.header or ()
        for number, cells in self._filled():
            if number in self._flaws and number > self._begin:
                yield number, None, f"row {number}: {self._flaws[number]}"
            elif number > self._begin:
                yield number, {name: _value(cell) for name, cell in zip(names, cells)}, None

    def fraction(self) -> Optional[float]:
        """The share of the sheet's rows that have been read."""
        return min(1.0, self._read / self._rows) if self._rows else None


def _value(cell: Any) -> Any:
    """Return a cell as a JSON value: Excel has no integers, and dates, times and durations become texts."""
    if cell == "":
        return None
    if isinstance(cell, float):
        return int(cell) if cell.is_integer() and abs(cell) < 2**53 else cell
    return cell if isinstance(cell, (str, int)) else to_jsonable_python(cell)
