"""How a batch command ends: exit code, reason, and the summary for people. The run itself is in `command`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ..batch.engine.scheduler import FATAL, INTERRUPTED, TOO_MANY_ERRORS, UNREACHABLE
from ..batch.reporting.charts import milliseconds
from ..batch.reporting.one_line import counted, one_line
from ..batch.reporting.snapshot import Snapshot
from ..batch.reporting.statistics import Summary
from ..exceptions import LoopaiException
from .interrupts import Interrupts

ALL_OK = 0
FAILED_ROWS = 1
USAGE = 2
STOPPED_BY_ERRORS = 3
SERVER_UNREACHABLE = 4

TO_RESUME = "Run again with --resume to continue."
TO_RETRY = "Run again with --retry-failed to repeat the rows that failed."

LONGEST = 400
"""Most characters of a foreign text on the terminal: an error may quote a whole row."""

MOST_KINDS = 5
"""Most kinds of errors in the summary for people; the one in JSON has more."""

MOST_CLASSES = 20
"""Most labels in it."""

LONGEST_NAME = 80
"""Most characters of a key or label in it."""


@dataclass
class CommandResult:
    """How a command's run ended: the source of its summary, report and exit code.

    `snapshot` is what the report shows, with `shown` in place of `summary` if it covers more than this command.
    `errors` counts the rows that have failed, including those of earlier runs; `error` is what stopped the run.
    `interrupted` is the text for an interruption, and `interrupted_code` its exit code if no signal caused it;
    `stopped` and `code` replace text and exit code of a stopped run. `notes` and `members` are additional lines and
    JSON members. `go_on` says how to continue, and `retry` how to repeat failed rows, if that is possible.
    """

    summary: Summary
    snapshot: Snapshot
    errors: int
    error: Optional[LoopaiException] = None
    shown: Optional[Summary] = None
    interrupted: str = "Interrupted."
    interrupted_code: Optional[int] = None
    stopped: Optional[str] = None
    code: Optional[int] = None
    notes: Sequence[str] = ()
    members: Mapping[str, Any] = field(default_factory=dict)
    go_on: str = TO_RESUME
    retry: Optional[str] = TO_RETRY

    def exit_code(self, came: Interrupts) -> int:
        """Return the command's exit code; `came` knows which signal arrived."""
        if self.code is not None:
            return self.code
        interrupted = came.exit_code
        if came.signal is None and self.interrupted_code is not None:
            interrupted = self.interrupted_code
        codes = {
            INTERRUPTED: interrupted,
            TOO_MANY_ERRORS: STOPPED_BY_ERRORS,
            UNREACHABLE: SERVER_UNREACHABLE,
            FATAL: USAGE,
        }
        return codes.get(self.summary.ended, FAILED_ROWS if self.errors else ALL_OK)

    def why(self, max_errors: Optional[str]) -> Optional[str]:
        """Return why the run ended before all rows were finished; `None` if it did not."""
        error = one_line(str(self.error), LONGEST)
        sentences = {
            TOO_MANY_ERRORS: f"Stopped: more errors than --max-errors {max_errors} allows.",
            UNREACHABLE: f"Stopped: the server cannot be reached ({error}).",
            FATAL: f"Stopped: the server refused the run ({error}).",
        }
        if self.summary.ended == INTERRUPTED:
            return self.interrupted
        return self.stopped if self.stopped is not None else sentences.get(self.summary.ended)


def told(summary: Summary) -> list[str]:
    """Return the summary as lines for people."""
    parts = [f"{summary.ok:,} ok", counted(summary.errors, "error")]
    if summary.doubtful:
        parts.insert(1, f"{summary.doubtful:,} doubtful")
    if summary.cancelled:
        parts.append(f"{summary.cancelled:,} cancelled")
    if summary.skipped:
        parts.append(f"{summary.skipped:,} from before")
    lines = [f"{', '.join(parts)} in {summary.seconds:.1f} s ({summary.rows_per_second:,.0f} rows/s)"]
    p50, p95 = summary.latency_ms.get("p50"), summary.latency_ms.get("p95")
    if p50 is not None and p95 is not None:
        half, most = milliseconds(p50), milliseconds(p95)
        lines.append(f"Latency at the server: half of the rows within {half}, 95 % within {most}")
    kinds = list(summary.errors_by_kind.items())
    lines += [f"  {count:,} × {one_line(kind, LONGEST)}" for kind, count in kinds[:MOST_KINDS]]
    if len(kinds) > MOST_KINDS:
        rest = sum(count for _, count in kinds[MOST_KINDS:])
        lines.append(f"  … and {len(kinds) - MOST_KINDS} more kinds of errors, in {counted(rest, 'row')}")
    quality = summary.quality
    if quality is not None and quality["accuracy"] is None:
        lines.append("No accuracy: no row has both an output and the column that --expect names")
    elif quality is not None:
        lines.append(f"Accuracy {quality['accuracy']:.4f} over {counted(quality['rows'], 'row')}")
        classes = list(quality["classes"].items())
        for label, scores in classes[:MOST_CLASSES]:
            shares = [
                f"{name} {'–' if scores[name] is None else format(scores[name], '.3f')}"
                for name in ("precision", "recall")
            ]
            lines.append(f"  {one_line(label, LONGEST_NAME)}: {', '.join(shares)}, {counted(scores['rows'], 'row')}")
        if len(classes) > MOST_CLASSES:
            lines.append(f"  … and {len(classes) - MOST_CLASSES} more")
    return lines
