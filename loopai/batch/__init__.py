"""Many rows through one task: none lost, none twice, resumable. `LoopaiClient.batch_stream` and `run_batch` are these.

Rows come from any iterable or file (`sources`) and go to a file or any `Sink`; a `Journal` remembers which have ended.
"""

from .api import run, run_sync
from .engine.scheduler import Limits
from .engine.stopping import Stop
from .formats.opening import Source, open_source
from .formats.sinks import CsvSink, JsonlSink, OutputError, Sink
from .reporting.statistics import Summary
from .reporting.watcher import Watcher
from .resume.journal import FileJournal, Journal, JournalError
from .resume.prescan import DuplicateKeys
from .rows import CANCELLED, ERROR, OK, Outcome, Row
from .streams import stream, stream_sync

__all__ = [
    "CANCELLED",
    "ERROR",
    "OK",
    "CsvSink",
    "DuplicateKeys",
    "FileJournal",
    "Journal",
    "JournalError",
    "JsonlSink",
    "Limits",
    "Outcome",
    "OutputError",
    "Row",
    "Sink",
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
