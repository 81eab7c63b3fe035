"""Programs written by a language model. Needs the library `openai`, imported when a model is first used."""

from __future__ import annotations

from .making import ModelGenerator

__all__ = ["ModelGenerator"]
