"""The statistics of a run: results, speed and errors. Their size does not grow with the number of rows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Optional

from pydantic_core import to_json

from ...display import fields_table
from ..formats.sinks import ERROR as ERROR_COLUMN
from ..formats.sinks import LATENCY as LATENCY_COLUMN
from ..formats.sinks import OUTPUT as OUTPUT_COLUMN
from ..formats.sinks import STATUS as STATUS_COLUMN
from ..rows import CANCELLED, DOUBTFUL, ERROR, OK, Outcome
from .quality import Expectation, Quality, storable

MOST_KINDS = 40
"""Most kinds of errors that are counted separately; further ones are counted together."""

BUCKETS = 60
"""Points of the throughput chart; at twice as many, pairs are merged."""

_STEP = math.log(1.05)
_VARYING = re.compile(
    # The digits of an encoding's name are part of it.
    r"(?P<name>(?i:utf|iso|latin|cp|windows)-?\d+(?:-\d+)?)|'[^']*'|\"[^\"]*\"|[0-9a-f]{8}-[0-9a-f-]{27}|\d+(?:\.\d+)?"
)
_REST = "other errors"
_COUNTS = ("ok", "errors", "cancelled", "repeated", "doubtful")
_LONGEST = 500
"""Characters of an example in a dump; a server's error may quote the whole input."""


@dataclass
class Latencies:
    """A histogram of milliseconds with bins of 5 %, for percentiles."""

    counts: dict[int, int] = field(default_factory=dict)
    total: float = 0.0

    def add(self, milliseconds: float) -> None:
        """Count one."""
        # Differences below a microsecond are ignored.
        place = int(math.log(max(milliseconds, 0.001)) // _STEP)
        self.counts[place] = self.counts.get(place, 0) + 1
        self.total += milliseconds

    def merge(self, other: Latencies) -> None:
        """Count what another has counted, too."""
        for place, rows in other.counts.items():
            self.counts[place] = self.counts.get(place, 0) + rows
        self.total += other.total

    def dump(self) -> dict[str, Any]:
        """Return it as JSON; `load` reads it."""
        return {"counts": sorted(self.counts.items()), "total": self.total}

    @classmethod
    def load(cls, dumped: Mapping[str, Any]) -> Latencies:
        """What `dump` gave."""
        return cls(dict(dumped["counts"]), dumped["total"])

    @property
    def number(self) -> int:
        """How many were counted."""
        return sum(self.counts.values())

    @property
    def mean(self) -> Optional[float]:
        """Return the mean in milliseconds."""
        return self.total / self.number if self.counts else None

    def percentile(self, share: float) -> Optional[float]:
        """Return the latency in milliseconds of the percentile `share` (0 to 1), to 5 %; `None` without rows."""
        wanted, seen = share * self.number, 0
        for place in sorted(self.counts):
            seen += self.counts[place]
            if seen >= wanted:
                return math.exp((place + 0.5) * _STEP)
        return None

    def bars(self, most: int = 24) -> list[tuple[float, float, int]]:
        """Return start and end (milliseconds) and number of rows of each bin, at most `most`."""
        if not self.counts:
            return []
        first, last = min(self.counts), max(self.counts)
        width = max(1, math.ceil((last - first + 1) / most))
        found = []
        for start in range(first, last + 1, width):
            rows = sum(self.counts.get(place, 0) for place in range(start, start + width))
            found.append((math.exp(start * _STEP), math.exp((start + width) * _STEP), rows))
        return found


@dataclass
class Timeline:
    """Finished rows over time, in a limited number of equal spans (`width` seconds)."""

    width: float = 0.125
    spans: list[list[int]] = field(default_factory=list)

    def add(self, second: float, ok: int, errors: int) -> None:
        """Count rows that ended `second` seconds after the start."""
        place = int(max(0.0, second) / self.width)
        while place >= BUCKETS * 2:
            self._widen()
            place //= 2
        while len(self.spans) <= place:
            self.spans.append([0, 0])
        self.spans[place][0] += ok
        self.spans[place][1] += errors

    def merge(self, other: Timeline) -> None:
        """Add another's counts; both have the same start."""
        while self.width < other.width:
            self._widen()
        for place, (ok, errors) in enumerate(other.spans):
            self.add(place * other.width, ok, errors)

    def dump(self) -> dict[str, Any]:
        """Return it as JSON; `load` reads it."""
        return {"width": self.width, "spans": self.spans}

    @classmethod
    def load(cls, dumped: Mapping[str, Any]) -> Timeline:
        """What `dump` gave."""
        return cls(dumped["width"], [list(span) for span in dumped["spans"]])

    def _widen(self) -> None:
        pairs = [self.spans[start : start + 2] for start in range(0, len(self.spans), 2)]
        self.spans = [[sum(part) for part in zip(*pair)] for pair in pairs]
        self.width *= 2


MOST_ROWS = 200
"""Most wrong or failed rows kept for the report; further ones are only counted."""

MOST_DUMPED_ROWS = 50
"""The same in a dump, of which a run of many parts has one per part."""

_LONGEST_CELL = 160
"""Characters of each text of such a row."""


@dataclass(frozen=True)
class ReportedRow:
    """A row that failed, or whose output is not the expected one: texts for the report, each of limited length."""

    key: str
    input: str
    output: Optional[str]
    expected: Optional[str]
    error: Optional[str]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return storable(value[:_LONGEST_CELL])
    try:
        text = to_json(value, inf_nan_mode="constants", bytes_mode="base64", fallback=str).decode()
    except ValueError:
        # An input that JSON cannot represent is shown as Python's repr.
        text = repr(value)
    return storable(text[:_LONGEST_CELL])


def kind_of(error: str) -> str:
    """Return an error without the parts that vary between rows: texts in quotes, ids and numbers."""
    return _VARYING.sub(lambda match: match["name"] or "…", error)[:120]


class Statistics:
    """The statistics of a run so far. Times are the clock's seconds."""

    def __init__(self, started: float, expect: Optional[Expectation] = None) -> None:
        self.started = started
        self.ok = self.doubtful = self.errors = self.cancelled = self.repeated = 0
        self.earlier_ok = self.earlier_doubtful = self.earlier_errors = 0
        self.latencies = Latencies()
        self.timeline = Timeline()
        self.kinds: dict[str, int] = {}
        self.examples: dict[str, tuple[str, str]] = {}
        self.last_error: Optional[str] = None
        self.quality = Quality() if expect is not None else None
        self.reported: list[ReportedRow] = []
        self._expect = expect

    @property
    def done(self) -> int:
        """Rows that ended in this run as ok, doubtful or error."""
        return self.rows - self.earlier_ok - self.earlier_doubtful - self.earlier_errors

    @property
    def rows(self) -> int:
        """Rows that ended as ok, doubtful or error, those of earlier runs included."""
        return self.ok + self.doubtful + self.errors

    def add(self, outcomes: Sequence[Outcome], now: float) -> None:
        """Count outcomes that were kept."""
        ok = doubtful = errors = 0
        latencies = self.latencies
        for outcome in outcomes:
            if outcome.status == OK:
                ok += 1
            elif outcome.status == DOUBTFUL:
                doubtful += 1
            elif outcome.status == CANCELLED:
                self.cancelled += 1
                continue
            else:
                errors += 1
                self._error(outcome.key, outcome.error or "")
                self._report(outcome, None)
            if outcome.attempts > 1:
                self.repeated += 1
            if outcome.latency_ms is not None:
                latencies.add(outcome.latency_ms)
            if self._expect is not None and outcome.row.columns is not None:
                wrong = self._compare(outcome.row.columns, outcome.status, outcome.output)
                if wrong is not None:
                    self._report(outcome, wrong)
        self.ok += ok
        self.doubtful += doubtful
        self.errors += errors
        self.timeline.add(now - self.started, ok + doubtful, errors)

    def add_earlier(self, columns: Mapping[str, Any]) -> None:
        """Count a row that an earlier run wrote, in the form that it has in the output."""
        status = columns.get(STATUS_COLUMN)
        if status == OK:
            self.ok += 1
            self.earlier_ok += 1
        elif status == DOUBTFUL:
            self.doubtful += 1
            self.earlier_doubtful += 1
        else:
            self.errors += 1
            self.earlier_errors += 1
            self._error("", str(columns.get(ERROR_COLUMN) or ""))
        latency = columns.get(LATENCY_COLUMN)
        if latency is not None:
            self.latencies.add(float(latency))
        self._compare(columns, str(status), columns.get(OUTPUT_COLUMN))

    def add_failure(self, key: str, error: str, latency_ms: Optional[float], compared: bool) -> None:
        """Count a failed row whose time is unknown; `compared` if its right answer is known."""
        self.errors += 1
        self._error(key, error)
        if latency_ms is not None:
            self.latencies.add(latency_ms)
        if compared and self.quality is not None:
            self.quality.failed += 1

    def merge(self, other: Statistics) -> None:
        """Add another's counts: those of another part of the same run, with the same expected column."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.latencies.merge(other.latencies)
        self.timeline.merge(other.timeline)
        for kind, rows in other.kinds.items():
            self._kind(kind, rows)
        for kind, example in other.examples.items():
            self.examples.setdefault(kind, example)
        self.last_error = other.last_error if other.last_error is not None else self.last_error
        if self.quality is not None and other.quality is not None:
            self.quality.merge(other.quality)
        self.reported = [*self.reported, *other.reported][:MOST_ROWS]

    def dump(self) -> dict[str, Any]:
        """Return it as JSON of limited size; `load` reads it. Counts of `add_earlier` are included."""
        return {
            **{name: getattr(self, name) for name in _COUNTS},
            "latencies": self.latencies.dump(),
            "timeline": self.timeline.dump(),
            "kinds": {storable(kind): rows for kind, rows in self.kinds.items()},
            "examples": {
                storable(kind): [storable(text[:_LONGEST]) for text in example]
                for kind, example in self.examples.items()
            },
            "last_error": None if self.last_error is None else storable(self.last_error[:_LONGEST]),
            "quality": None if self.quality is None else self.quality.dump(),
            "reported": [asdict(row) for row in self.reported[:MOST_DUMPED_ROWS]],
        }

    @classmethod
    def load(cls, dumped: Mapping[str, Any], started: float = 0.0) -> Statistics:
        """What `dump` gave."""
        made = cls(started)
        for name in _COUNTS:
            setattr(made, name, dumped.get(name, 0))
        made.latencies = Latencies.load(dumped["latencies"])
        made.timeline = Timeline.load(dumped["timeline"])
        made.kinds = dict(dumped["kinds"])
        made.examples = {kind: (key, error) for kind, (key, error) in dumped["examples"].items()}
        made.last_error = dumped["last_error"]
        made.quality = None if dumped["quality"] is None else Quality.load(dumped["quality"])
        made.reported = [ReportedRow(**row) for row in dumped["reported"]]
        return made

    def _error(self, key: str, error: str) -> None:
        self.last_error = error
        kind = self._kind(kind_of(error), 1)
        if key:
            self.examples.setdefault(kind, (key, error))

    def _kind(self, kind: str, rows: int) -> str:
        if kind not in self.kinds and len(self.kinds) >= MOST_KINDS:
            kind = _REST
        self.kinds[kind] = self.kinds.get(kind, 0) + rows
        return kind

    def _compare(self, columns: Mapping[str, Any], status: str, output: Any) -> Optional[str]:
        """Compare an output with the expected one, and return the latter if they differ."""
        if self._expect is None or self.quality is None:
            return None
        expected = self._expect.expected(columns)
        if expected is None:
            return None
        if status == ERROR:
            self.quality.failed += 1
            return None
        if status != OK:
            return None
        predicted = self._expect.predicted(output)
        self.quality.add(expected, predicted)
        return expected if expected != predicted else None

    def _report(self, outcome: Outcome, expected: Optional[str]) -> None:
        if len(self.reported) < MOST_ROWS:
            output = None if outcome.status == ERROR else _text(outcome.output)
            error = None if outcome.error is None else storable(outcome.error[:_LONGEST_CELL])
            self.reported.append(ReportedRow(_text(outcome.key), _text(outcome.row.input), output, expected, error))

    def rate(self, now: float) -> float:
        """Rows finished per second, over the whole run."""
        seconds = now - self.started
        return self.done / seconds if seconds > 0 else 0.0


Ended = Literal[
    "finished",
    "finished_before",
    "max_errors",
    "unreachable",
    "fatal_error",
    "interrupted",
    "unusable",
    "fault",
    "unreadable_upload",
]
"""The values of `Summary.ended`. Only runs by workers end as `unusable` (a worker cannot use what the run names) or
`fault` (a part failed again and again), and only those of FastAPI's batch router as `unreadable_upload`."""


@dataclass(frozen=True, repr=False)
class Summary:
    """The result of a run.

    - `ended`: `finished`, `finished_before` (an earlier run left nothing to do), or why the run stopped: `max_errors`,
      `unreachable`, `fatal_error` (the server rejected the run: key, task, version), `interrupted`.
    - `ok`, `doubtful`, `errors`: rows of this run; `skipped`: rows that an earlier run has finished.
    - `seconds`: duration of this run; latencies are the server's, in milliseconds.
    - `errors_by_kind`: the most frequent kinds of errors.
    - `quality`: accuracy and confusion matrix, if an expected column was named. Doubtful rows do not count.
    """

    ended: Ended
    ok: int
    errors: int
    cancelled: int
    skipped: int
    repeated: int
    seconds: float
    latency_ms: Mapping[str, Optional[float]]
    errors_by_kind: Mapping[str, int] = field(default_factory=dict)
    last_error: Optional[str] = None
    quality: Optional[Mapping[str, Any]] = None
    doubtful: int = 0

    @property
    def rows(self) -> int:
        """Rows that this run finished or cancelled."""
        return self.ok + self.doubtful + self.errors + self.cancelled

    @property
    def rows_per_second(self) -> float:
        """Rows finished per second."""
        return (self.ok + self.doubtful + self.errors) / self.seconds if self.seconds > 0 else 0.0

    def __repr__(self) -> str:
        counts = f"{self.ok:,} ok, {self.errors:,} failed"
        counts += f", {self.cancelled:,} cancelled" if self.cancelled else ""
        counts += f", {self.skipped:,} skipped" if self.skipped else ""
        return f"<Summary {self.ended}: {counts}, {self.seconds:.3g} s>"

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        return fields_table("Summary", {name: value for name, value in self.to_dict().items() if value})

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as plain data."""
        return {
            "ended": self.ended,
            "rows": self.rows,
            "ok": self.ok,
            "doubtful": self.doubtful,
            "errors": self.errors,
            "cancelled": self.cancelled,
            "skipped": self.skipped,
            "repeated": self.repeated,
            "seconds": round(self.seconds, 3),
            "rows_per_s": round(self.rows_per_second, 1),
            "latency_ms": dict(self.latency_ms),
            "errors_by_kind": dict(self.errors_by_kind),
            "last_error": self.last_error,
            "quality": self.quality,
        }


def summary_of(tally: Statistics, ended: Ended, skipped: int, now: float) -> Summary:
    """Return the summary of a run that is over."""
    latencies = tally.latencies
    return Summary(
        ended=ended,
        ok=tally.ok - tally.earlier_ok,
        doubtful=tally.doubtful - tally.earlier_doubtful,
        errors=tally.errors - tally.earlier_errors,
        cancelled=tally.cancelled,
        skipped=skipped,
        repeated=tally.repeated,
        seconds=max(0.0, now - tally.started),
        latency_ms={
            "mean": latencies.mean,
            "p50": latencies.percentile(0.5),
            "p95": latencies.percentile(0.95),
            "p99": latencies.percentile(0.99),
        },
        errors_by_kind=dict(sorted(tally.kinds.items(), key=lambda item: -item[1])),
        last_error=tally.last_error,
        quality=None if tally.quality is None else tally.quality.to_dict(),
    )
