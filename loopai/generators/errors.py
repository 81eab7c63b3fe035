"""The one error of training."""

from __future__ import annotations


class CannotLearn(Exception):
    """These examples teach no program; the message says why and what to change."""
