"""The application's tables."""

from .entries import PendingRow
from .events import HandledEvent
from .parts import BatchFailure, BatchPart
from .runs import BatchRun

__all__ = ["BatchFailure", "BatchPart", "BatchRun", "HandledEvent", "PendingRow"]
