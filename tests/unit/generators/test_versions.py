"""Whether a next version is better than the active one, by what both give for the examples of now."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("pydantic_monty", reason="programs run in its sandbox")

from loopai.generators import Failure  # after the check for Monty
from loopai.generators.examples import with_corrections
from loopai.generators.versions import Results, Standing, is_better, standing_of_active
from loopai.generators.whole import NOT_RUN, Example, split
from loopai.programs import ProgramOutcome


def results(*pairs: tuple[Any, Any]) -> Results:
    """What a program gave, and what is right; an exception is an error."""
    examples = [Example(number, right) for number, (_, right) in enumerate(pairs)]
    outcomes = [
        ProgramOutcome(None, str(given), 0.1) if isinstance(given, Exception) else ProgramOutcome(given, None, 0.1)
        for given, _ in pairs
    ]
    return Results.of(examples, outcomes)


def test_results_are_right_where_they_are_exact() -> None:
    """Errors and near misses are failures, which say what is right; what was not run counts for nothing."""
    found = results((1, 1), (2.5, 2.4), (ValueError("x"), 3), (True, 1), (ValueError(NOT_RUN), 5))
    assert found.exact() == [True, False, False, False]
    assert found.share() == 0.25
    assert found.failures() == [Failure(1, 2.5, 2.4), Failure(2, None, 3, "x"), Failure(3, True, 1)]
    assert results().share() == 0.0


def test_an_estimate_is_measured_by_its_worst_field() -> None:
    """R² of numbers, whether alone or in objects; labels beside them by what is exact; an error is worth the mean."""
    assert results((1.0, 1.0), (2.0, 2.0), (3.0, 3.0)).share(estimate=True) == 1.0
    assert results((1.0, 1.0), (ValueError("x"), 2.0), (2.0, 3.0)).share(estimate=True) == 0.5
    rows = (
        ({"n": 1.0, "kind": "a"}, {"n": 1.0, "kind": "a"}),
        ({"n": 3.0, "kind": "b"}, {"n": 3.0, "kind": "a"}),
    )
    assert results(*rows).share(estimate=True) == 0.5
    assert results((7.0, 5.0), (5.0, 5.0)).share(estimate=True) == 0.0


def test_what_a_version_was_made_from_does_not_test_it() -> None:
    """Of these its score on held-back examples counts; a program of the user's own has seen none."""
    given = results(*[(1, 1)] * 6, (1, 2), (1, 2), (1, 1), (1, 1))
    made = standing_of_active(given, [True] * 6 + [False] * 4, 0.5, estimate=False, same_kind=True)
    assert made == Standing(0.8, (6 * 0.5 + 2) / 10)
    own = standing_of_active(given, [False] * 10, 0.5, estimate=False, same_kind=True)
    assert own == Standing(0.8, 0.8)
    other_kind = standing_of_active(given, [True] * 10, 0.9, estimate=False, same_kind=False)
    assert other_kind == Standing(0.8, 0.8)


@pytest.mark.parametrize(
    ("new", "active", "examples", "own", "better"),
    [
        # Right on more, and on held-back examples as good within chance.
        (Standing(1.0, 0.67), Standing(0.75, 0.75), 4, False, True),
        # What is right on everything stays, whatever is said of another.
        (Standing(1.0, 1.0), Standing(1.0, 0.5), 40, False, False),
        # It knows the examples by heart.
        (Standing(0.9, 0.3), Standing(0.75, 0.75), 100, False, False),
        # More examples made the model better, though the one before knows half of them by heart.
        (Standing(0.999, 0.979), Standing(0.9865, 0.974), 2000, False, True),
        # Right on fewer of those that are known, and clearly better on others.
        (Standing(0.97, 0.97), Standing(0.99, 0.8), 1000, False, True),
        (Standing(0.97, 0.82), Standing(0.99, 0.8), 1000, False, False),
        # A program of the user's own is replaced by a better score only.
        (Standing(1.0, 0.9), Standing(0.95, 0.95), 100, True, False),
        (Standing(1.0, 0.96), Standing(0.95, 0.95), 100, True, True),
        # Nothing is better than another by being the same.
        (Standing(0.9, 0.9), Standing(0.9, 0.9), 50, False, False),
    ],
)
def test_a_version_replaces_the_active_one_only_where_it_is_better(
    new: Standing, active: Standing, examples: int, own: bool, better: bool
) -> None:
    """By all examples of now and by those that neither was made from."""
    assert is_better(new, active, examples, own=own, estimate=False) is better


def test_scores_of_an_estimate_differ_by_chance() -> None:
    """A little less on held-back examples is no reason to keep the version that fits the new ones worse."""
    assert is_better(Standing(0.9, 0.79), Standing(0.8, 0.8), 500, own=False, estimate=True)
    assert not is_better(Standing(0.9, 0.7), Standing(0.8, 0.8), 500, own=False, estimate=True)


def test_failures_are_shown_first_and_held_back_as_the_others() -> None:
    """A model sees some of what the version before gets wrong; others of these judge its program."""
    examples = [Example(number, number % 2) for number in range(100)]
    failed = list(range(40, 50))
    shown, held = split(examples, 20, failed=failed)
    wrong_shown = [one.input for one in shown if one.input in failed]
    assert len(shown) == 20
    assert len(wrong_shown) >= 5
    assert len([one for one in held if one.input in failed]) >= 3
    assert not {one.input for one in shown} & {one.input for one in held}
    assert split(examples, 20) == split(examples, 20, failed=[-1])


def test_a_failure_is_an_example_only_where_none_has_its_input() -> None:
    """An example is not counted twice; one that is shown twice would also be held back."""
    examples = [{"input": "a", "output": 1}, {"input": "k"}]
    failures = [Failure("a", 2, 1), Failure("b", 2, 3), Failure("c", 1)]
    assert with_corrections(examples, failures) == [*examples, {"input": "b", "output": 3}]
