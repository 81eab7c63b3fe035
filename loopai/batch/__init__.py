"""Many rows through one task: none lost, none twice, resumable. `LoopaiClient.batch_stream` and `run_batch` are these.

Rows come from any iterable or file (`sources`) and go to a file or any `Sink`; a `Journal` remembers which have ended.
"""

from .journal import FileJournal, Journal, JournalError
from .rows import CANCELLED, ERROR, OK, Outcome, Row
from .runs import run, run_sync
from .scheduler import Limits
from .sinks import CsvSink, JsonlSink, OutputError, Sink
from .sources import Source, open_source
from .stopping import Stop
from .streams import stream, stream_sync
from .surveying import DuplicateKeys
from .tally import Summary
from .watching import Watcher

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
