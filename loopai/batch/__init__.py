"""Run many rows through one task: no row lost, none twice, resumable. `batch_stream` and `run_batch` of the clients.

Rows come from any iterable or file (`formats`) and go to a file or any `Sink`; a `Journal` records finished rows.
"""

from ..exceptions import DuplicateKeys, JournalError, OptionError, OutputError
from .api import run, run_sync, stream, stream_sync
from .engine.stopping import Stop
from .formats.opening import Source, open_source
from .formats.sinks import CsvSink, JsonlSink, Sink
from .options import BatchOptions
from .reporting.progress import ProgressBar
from .reporting.snapshot import Snapshot, Watcher
from .reporting.statistics import Summary
from .resume.journal import FileJournal, Journal
from .rows import CANCELLED, ERROR, OK, Outcome, Row

__all__ = [
    "CANCELLED",
    "ERROR",
    "OK",
    "BatchOptions",
    "CsvSink",
    "DuplicateKeys",
    "FileJournal",
    "Journal",
    "JournalError",
    "JsonlSink",
    "OptionError",
    "Outcome",
    "OutputError",
    "ProgressBar",
    "Row",
    "Sink",
    "Snapshot",
    "Source",
    "Stop",
    "Summary",
    "Watcher",
    "open_source",
    "run",
    "run_sync",
    "stream",
    "stream_sync",
]
