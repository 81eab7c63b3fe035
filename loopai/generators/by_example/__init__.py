"""Programs from a few examples: the cheapest expression over the input that gives every output."""

from .making import Made, make

__all__ = ["Made", "make"]
