"""The application's tables."""

from .deliveries import WebhookDelivery
from .parts import BatchFailure, BatchPart
from .runs import BatchRun, Failure, LeaseLost

__all__ = ["BatchFailure", "BatchPart", "BatchRun", "Failure", "LeaseLost", "WebhookDelivery"]
