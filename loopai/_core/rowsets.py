"""What can be passed as rows: iterables, DataFrames and Series; never a text, bytes, a mapping or one row.

Iterating over those would run each of their letters, numbers or keys as a row. Nothing is sent here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Optional

from pydantic import BaseModel

from ..exceptions import ConfigurationError, ValidationException
from .encoding import is_missing

Missing = Literal["null", "error"]
"""How missing values (NaN, `pd.NA`, NaT) in DataFrames and Series are sent: as null, or as an error of their row."""

_FRAMES = frozenset({"cudf", "dask", "duckdb", "geopandas", "ibis", "modin", "narwhals", "pandas", "polars", "pyarrow"})
_KINDS = frozenset({
    "DataFrame", "LazyFrame", "Series", "Table", "RecordBatch", "RecordBatchReader", "Array", "ChunkedArray",
    "DuckDBPyRelation",
})  # fmt: skip


def rows_of(rows: Any, name: str, missing: Missing = "null") -> Iterator[Any]:
    """Return the rows of `rows`, each a value that can be encoded; `name` is the argument's name, for errors.

    Each row of a DataFrame becomes an object with a member for each column, as do the rows of `itertuples` and
    `iterrows`. A Series gives its values. Raises `ValidationException` for a value that is not rows, before the first
    is returned, and for a missing value if `missing` is `"error"`.
    """
    check_missing(missing)
    check_rows(rows, name)
    found = frame_rows(rows, name, missing)
    return found if found is not None else _each(iter(rows), name, missing)


def _each(rows: Iterator[Any], name: str, missing: Missing) -> Iterator[Any]:
    for number, row in enumerate(rows):
        yield row if type(row) is dict else row_of(row, f"{name}[{number}]", missing)


def check_missing(missing: Any) -> None:
    """Raise `ValidationException` for an option `missing` that is neither `"null"` nor `"error"`."""
    if missing not in {"null", "error"}:
        raise refused("missing", f"must be 'null' or 'error', not {missing!r}")


def check_rows(rows: Any, name: str, *, asynchronous: bool = False) -> None:
    """Raise `ValidationException`, which says what to pass instead, for a single value.

    `asynchronous` also allows an asynchronous iterable.
    """
    kind = type(rows).__name__
    if isinstance(rows, (str, bytes, bytearray, memoryview)):
        raise refused(name, f"must be rows, not a {kind}: for a single row pass [{name}]")
    if isinstance(rows, Mapping):
        raise refused(
            name, f"must be rows, not a {kind}: for a single row pass [{name}], for its values list({name}.values())"
        )
    if isinstance(rows, (set, frozenset)):
        raise refused(name, f"must be rows, not a {kind}, whose order is unknown: pass list({name})")
    if isinstance(rows, type):
        raise refused(name, f"must be rows, not the class {rows.__name__}: for its members pass list({name})")
    if not is_frame(rows) and _is_one_row(rows):
        raise refused(name, f"must be rows, not a {kind}: for a single row pass [{name}]")
    if callable(getattr(rows, "read", None)):
        raise refused(name, f"must be rows, not a {kind}: batch_stream and run_batch read files")
    if is_frame(rows) or (asynchronous and hasattr(rows, "__aiter__")):
        return
    if hasattr(rows, "__aiter__"):
        raise refused(name, "must be rows, not an asynchronous iterable: collect them first, or use batch_stream")
    try:
        iter(rows)
    except TypeError:
        raise refused(name, f"must be an iterable of rows, not {kind}: for a single row pass [{name}]") from None


def _is_one_row(rows: Any) -> bool:
    """Whether it is one value although it is iterable; iterating would run its parts as rows."""
    if isinstance(rows, BaseModel) or hasattr(rows, "_fields"):  # a named tuple, a row of SQLAlchemy
        return True
    if callable(getattr(rows, "keys", None)) and hasattr(rows, "__getitem__"):  # a sqlite3 row, an email message
        return True
    # A numpy record, a pyarrow value, or text that is not a `str`, such as Django's translations.
    return _is_record(rows) or callable(getattr(rows, "as_py", None)) or callable(getattr(rows, "casefold", None))


def _is_record(row: Any) -> bool:
    """Whether it is a numpy record, as returned by `to_records`."""
    dtype = getattr(row, "dtype", None)
    return type(row).__module__.partition(".")[0] == "numpy" and bool(getattr(dtype, "names", None)) and not row.shape


def is_frame(rows: Any) -> bool:
    """Return whether `rows` is a DataFrame or Series."""
    return any(each.__module__.partition(".")[0] in _FRAMES and each.__name__ in _KINDS for each in type(rows).__mro__)


def frame_rows(rows: Any, name: str, missing: Missing) -> Optional[Iterator[Any]]:
    """Return the rows of a DataFrame or the values of a Series, `None` for anything else.

    Raises `ConfigurationError` if narwhals is not installed, and as `cells_of` does.
    """
    found = raw_rows(rows, name)
    if found is None:
        return None
    return (cells_of(row, f"{name}[{number}]", missing) for number, row in enumerate(found))


def cells_of(row: Any, place: str, missing: Missing) -> Any:
    """Return one of `raw_rows` with null for each missing value.

    Raises `ValidationException` with the place of a missing value if `missing` is `"error"`.
    """
    if type(row) is dict:
        return {column: _cell(cell, f"{place}.{column}", missing) for column, cell in row.items()}
    return _cell(row, place, missing)


def raw_rows(rows: Any, name: str) -> Optional[Iterator[Any]]:
    """Return the unchanged rows of a DataFrame or values of a Series, `None` for anything else.

    Raises `ConfigurationError` if narwhals is not installed, `ValidationException` for a table without rows by name.
    """
    if not is_frame(rows):
        return None
    try:
        import narwhals
    except ImportError:
        raise ConfigurationError("rows of a DataFrame need narwhals: pip install narwhals") from None
    try:
        frame: Any = narwhals.from_native(_arrow_table(rows), allow_series=True)
    except (TypeError, narwhals.exceptions.NarwhalsError) as error:
        raise refused(name, f"is a table that cannot be read: {' '.join(str(error).split())}") from None
    if isinstance(frame, narwhals.LazyFrame):
        try:
            frame = frame.collect()
        except ImportError as error:  # its library needs another one to collect rows
            raise ConfigurationError(f"rows of a {type(rows).__name__} cannot be read: {error}") from None
    if isinstance(frame, narwhals.Series):
        return _read(iter(frame), name)
    if any(is_missing(column) for column in frame.columns):
        raise refused(name, "has a column without a name: give it one")
    names = [str(column) for column in frame.columns]
    twice = next((column for place, column in enumerate(names) if column in names[:place]), None)
    if twice is not None:
        raise refused(name, f"has two columns {twice!r}: rename one")
    return _read((dict(zip(names, cells)) for cells in frame.iter_rows(named=False)), name)


def _arrow_table(rows: Any) -> Any:
    """Return pyarrow's tables and columns as types that narwhals supports; anything else unchanged."""
    kinds = {each.__name__ for each in type(rows).__mro__ if each.__module__.partition(".")[0] == "pyarrow"}
    if not kinds & _KINDS:
        return rows
    import pyarrow

    if "RecordBatchReader" in kinds:
        return rows.read_all()
    if "RecordBatch" in kinds:
        return pyarrow.Table.from_batches([rows])
    return pyarrow.chunked_array([rows]) if "Array" in kinds else rows


def _read(rows: Iterator[Any], name: str) -> Iterator[Any]:
    """Raise `ValidationException` for a value that Python cannot represent, such as a date in the year 20000."""
    number = 0
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except BaseException as error:
            # Panics of polars are not an `Exception`.
            if not isinstance(error, (ArithmeticError, ValueError)) and type(error).__name__ != "PanicException":
                raise
            raise refused(name, f"cannot be read from row {number} on: {error}. Cast such a column to text") from None
        number += 1
        yield row


def row_of(row: Any, place: str, missing: Missing) -> Any:
    """Return one row: an object by names for rows of `itertuples`, `iterrows`, numpy and databases, others unchanged.

    Raises `ValidationException` with the place of a missing value if `missing` is `"error"`.
    """
    if isinstance(row, tuple) and type(row).__module__.partition(".")[0] == "pandas":
        names = type(row)._fields  # type: ignore[attr-defined]  # from `itertuples`
        return {column: _cell(cell, f"{place}.{column}", missing) for column, cell in zip(names, row)}
    if isinstance(row, tuple) and len(row) == 2 and _is_series(row[1]):
        row = row[1]  # from `iterrows`: (label, row)
    if _is_record(row):
        return {column: _cell(row[column], f"{place}.{column}", missing) for column in row.dtype.names}
    if _is_series(row):
        return {
            str(column): _cell(cell, f"{place}.{column}", missing) for column, cell in zip(row.index, row)
        }  # its labels are the columns
    return _of_a_database(row, place)


def _of_a_database(row: Any, place: str) -> Any:
    """Return a row of SQLAlchemy or sqlite3 as an object by column names; anything else unchanged."""
    mapping = getattr(row, "_mapping", None) if hasattr(row, "_fields") else None
    if isinstance(mapping, Mapping):
        names, cells = list(row._fields), list(row)
    elif isinstance(row, Sequence) and callable(keys := getattr(row, "keys", None)):
        names, cells = list(keys()), list(row)
    else:
        return row
    twice = next((column for number, column in enumerate(names) if column in names[:number]), None)
    if twice is not None:
        raise refused(place, f"has two columns {twice!r}: give one another name")
    return dict(zip(names, cells))


def _is_series(row: Any) -> bool:
    return is_frame(row) and type(row).__name__ == "Series" and hasattr(row, "index")


def _cell(value: Any, place: str, missing: Missing) -> Any:
    if not is_missing(value):
        return value
    if missing == "error":
        raise refused(place, "is a missing value: fill it, or pass missing='null'")
    return None


def refused(place: str, reason: str) -> ValidationException:
    return ValidationException(f"{place} {reason}", errors={place: [reason]})
