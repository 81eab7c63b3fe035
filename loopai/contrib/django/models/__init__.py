"""The application's tables."""

from .events import HandledEvent
from .parts import BatchFailure, BatchPart
from .runs import BatchRun, Failure, LeaseLost

__all__ = ["BatchFailure", "BatchPart", "BatchRun", "Failure", "HandledEvent", "LeaseLost"]
