"""The application's tables."""

from .deliveries import WebhookDelivery
from .parts import BatchFailure, BatchPart
from .runs import BatchRun

__all__ = ["BatchFailure", "BatchPart", "BatchRun", "WebhookDelivery"]
