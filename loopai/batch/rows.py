"""`Row`, the input of a batch, and `Outcome`, its result. Files are read and written in `formats`."""

from __future__ import annotations

from typing import Any, Final, Literal, Optional

from ..display import fields_table, short

Status = Literal["ok", "doubtful", "error", "cancelled"]
"""The values of `Outcome.status`."""

Code = Literal[
    "program",
    "unreadable",
    "unmapped",
    "duplicate",
    "unsendable",
    "refused",
    "server",
    "unfit",
    "doubtful",
    "stopped",
]
"""The values of `Outcome.code`: why a row has no output."""

OK: Final = "ok"
DOUBTFUL: Final = "doubtful"
"""`Outcome.status`: there is an output, but the program is less certain of it than `min_confidence`."""
ERROR: Final = "error"
CANCELLED: Final = "cancelled"

PROGRAM: Final = "program"
"""`Outcome.code`: the program failed on this row."""
UNREADABLE: Final = "unreadable"
"""`Outcome.code`: the row could not be read from its source."""
UNMAPPED: Final = "unmapped"
"""`Outcome.code`: the row lacks a column that the mapping or the key names."""
DUPLICATE: Final = "duplicate"
"""`Outcome.code`: an earlier row of a one-pass stream has this key."""
UNSENDABLE: Final = "unsendable"
"""`Outcome.code`: the input cannot be written as JSON."""
REFUSED: Final = "refused"
"""`Outcome.code`: alone in a request, the row was rejected, or its reply was larger than `max_reply_bytes`."""
SERVER: Final = "server"
"""`Outcome.code`: the server could not run or record this row, but ran others."""
UNFIT: Final = "unfit"
"""`Outcome.code`: the output does not fit the model's field, or the type, that it is saved to."""
UNCERTAIN: Final = "doubtful"
"""`Outcome.code`: the output is doubtful and was not saved to the row of a queryset."""
STOPPED: Final = "stopped"
"""`Outcome.code` of a cancelled row: the run ended first."""


class Row:
    """One row: `key` names it, `input` is passed to the program, `columns` is kept with the result.

    `line` is its line in the source, counted from 1, for errors. A row with `error` set is not sent: it fails with that
    error and the code `code`.
    """

    __slots__ = ("code", "columns", "error", "input", "key", "line")

    def __init__(
        self,
        key: str,
        input: Any,  # noqa: A002  # the wire's name
        columns: Optional[dict[str, Any]] = None,
        line: Optional[int] = None,
        error: Optional[str] = None,
        code: Code = UNREADABLE,
    ) -> None:
        self.key = key
        self.input = input
        self.columns = columns
        self.line = line
        self.error = error
        self.code: Code = code

    def __repr__(self) -> str:
        told = f", error={self.error!r}" if self.error else ""
        return f"Row({self.key!r}, {self.input!r}{told})"


class Outcome:
    """The result of a row.

    - `status`: `ok`, `doubtful`, `error` or `cancelled`.
    - `output`: the program's output, any JSON value.
    - `confidence`: how certain the program is of its output, from 0 to 1; `None` if it does not say.
    - `error`, `code`: if there is no output, the reason as text and its kind.
    - `latency_ms`: the server's measure for this row, in milliseconds.
    - `attempts`: how often the row was sent.
    - `row`: the row itself.
    """

    __slots__ = ("attempts", "code", "confidence", "error", "execution_id", "latency_ms", "output", "row", "status")

    def __init__(
        self,
        row: Row,
        status: Status,
        output: Any = None,
        error: Optional[str] = None,
        code: Optional[Code] = None,
        latency_ms: Optional[float] = None,
        attempts: int = 0,
        execution_id: Optional[str] = None,
        confidence: Optional[float] = None,
    ) -> None:
        self.row = row
        # Annotated for pyright, which otherwise widens the literals to str.
        self.status: Status = status
        self.output = output
        self.error = error
        self.code: Optional[Code] = code
        self.latency_ms = latency_ms
        self.attempts = attempts
        self.execution_id = execution_id
        self.confidence = confidence

    @property
    def key(self) -> str:
        """The row's key."""
        return self.row.key

    def fail(self, error: str, code: Code = UNFIT) -> None:
        """Turn it into the error of a row whose output does not fit its target, or is not saved."""
        self.status, self.output, self.error, self.code = ERROR, None, error, code

    @property
    def ok(self) -> bool:
        """Whether there is an output that is certain enough."""
        return self.status == OK

    @property
    def has_output(self) -> bool:
        """Whether there is an output, doubtful or not."""
        return self.status in {OK, DOUBTFUL}

    def __repr__(self) -> str:
        told = f"output={short(self.output)}" if self.has_output else f"error={short(self.error)}"
        return f"Outcome({self.row.key!r}, {self.status!r}, {told}, attempts={self.attempts})"

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        fields = {"key": self.key, "input": self.row.input, "status": self.status, "output": self.output}
        told = {"error": self.error, "code": self.code} if self.error is not None else {}
        return fields_table("Outcome", {**fields, **told, "latency_ms": self.latency_ms, "attempts": self.attempts})
