"""Programs that a language model writes. Needs the library `openai`, which is imported when a model is asked."""

from __future__ import annotations

from .making import ModelGenerator

__all__ = ["ModelGenerator"]
