"""Convert outcomes and results of batches to DataFrames, with pandas, polars or pyarrow.

Pass the outcomes of `batch_stream` or the results of `batch_execute`. Each row of the frame has the row's key, its
input, each member of its output (`output.label`, or `output` if that is not an object), and its status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .exceptions import ConfigurationError

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


def to_pandas(outcomes: Iterable[Any]) -> pandas.DataFrame:
    """Return a pandas DataFrame of outcomes. Raises `ConfigurationError` if pandas is not installed."""
    try:
        import pandas
    except ImportError:
        raise ConfigurationError("to_pandas needs pandas: pip install pandas") from None
    return pandas.DataFrame(columns_of(outcomes))


def to_polars(outcomes: Iterable[Any]) -> polars.DataFrame:
    """Return a polars DataFrame of outcomes. Raises `ConfigurationError` if polars is not installed."""
    try:
        import polars
    except ImportError:
        raise ConfigurationError("to_polars needs polars: pip install polars") from None
    return polars.DataFrame(columns_of(outcomes), strict=False)


def to_arrow(outcomes: Iterable[Any]) -> pyarrow.Table:
    """Return a pyarrow Table of outcomes. Raises `ConfigurationError` if pyarrow is not installed."""
    try:
        import pyarrow
    except ImportError:
        raise ConfigurationError("to_arrow needs pyarrow: pip install pyarrow") from None
    return pyarrow.table(columns_of(outcomes))


def columns_of(outcomes: Iterable[Any]) -> dict[str, list[Any]]:
    """Return the columns of a table of outcomes, all of the same length; missing members are None."""
    if isinstance(outcomes, (str, bytes, Mapping)):
        raise TypeError(f"outcomes must be those of a batch, not a {type(outcomes).__name__}")
    rows = [_cells(outcome) for outcome in outcomes]
    # Inputs before outputs, in the order of their first appearance; key, status and the like come first and last.
    names = sorted(dict.fromkeys(name for row in rows for name in row if name not in _LAST), key=_place)
    return {name: [row.get(name) for row in rows] for name in [*names, *_LAST]}


_LAST = ("status", "error", "latency_ms")


def _place(name: str) -> int:
    return ("key", "input", "output").index(name.partition(".")[0])


def _cells(outcome: Any) -> dict[str, Any]:
    row = getattr(outcome, "row", None)
    cells: dict[str, Any] = {"key": outcome.key if row is not None else outcome.id}
    if row is not None:
        _spread(cells, "input", row.input)
    _spread(cells, "output", outcome.output)
    if row is not None:
        status, error = outcome.status, outcome.error
    else:
        status, error = "ok" if outcome.success else "error", outcome.error_message
    return {**cells, "status": status, "error": error, "latency_ms": outcome.latency_ms}


def _spread(cells: dict[str, Any], name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for member, inner in value.items():
            cells[f"{name}.{member}"] = inner
    elif value is not None:
        cells[name] = value
