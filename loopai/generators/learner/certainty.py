"""How certain an answer is, computed from the labels' scores. Programs carry these functions unchanged."""

from __future__ import annotations

import math


def certainty_of_two(score, scale):  # type: ignore[no-untyped-def]  # carried into programs, without annotations
    """Return how certain the answer is (0 to 1), from the score whose sign decides between two labels."""
    return round(1 / (1 + math.exp(-abs(scale * score))), 4)


def certainty_of_many(scores, scale):  # type: ignore[no-untyped-def]
    """Return how certain the label with the highest score is, from 0 to 1."""
    largest = max(scores)
    return round(1 / sum([math.exp(scale * (score - largest)) for score in scores]), 4)


def certainty_of_each(scores, scale):  # type: ignore[no-untyped-def]
    """Return how certain the label with the highest score is (0 to 1), if each label has a model of its own."""
    shares = [(1 / (1 + math.exp(min(-score, 700)))) ** scale for score in scores]
    return round(max(shares) / sum(shares), 4) if sum(shares) else 0.0
