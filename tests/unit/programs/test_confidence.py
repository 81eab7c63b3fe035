"""Programs that say how certain they are: in the sandbox, one by one and in groups."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("pydantic_monty")

from loopai.generators import Candidate, TaskDescription, generate
from loopai.programs import Program, ProgramPool

SAYS = """
def main_with_confidence(input):
    return input["output"], input["sure"]

def main(input):
    return main_with_confidence(input)[0]
"""
MAILS = {
    "spam": ["win free money now", "cheap pills free offer", "claim your free prize", "win a cheap prize now"],
    "ham": ["lunch at noon?", "the report is attached", "see you at the meeting", "notes of the meeting attached"],
}


@pytest.fixture(scope="module")
def pool() -> Any:
    with ProgramPool(processes=1) as made:
        yield made


@pytest.mark.parametrize(("said", "share"), [(0.7, 0.7), (1, 1.0), (None, None), (2, None), ("no", None), (True, None)])
def test_a_program_says_how_certain_it_is(pool: ProgramPool, said: Any, share: float | None) -> None:
    """A number from 0 to 1; anything else counts as not said."""
    alone = pool.run(Program(SAYS), {"output": "x", "sure": said})
    assert (alone.output, alone.error, alone.confidence) == ("x", None, share)
    group = pool.run_many(Program(SAYS), [{"output": n, "sure": said} for n in range(20)])
    assert [(one.output, one.confidence) for one in group] == [(n, share) for n in range(20)]


def test_other_programs_say_nothing(pool: ProgramPool) -> None:
    """A function `main` alone is a program as ever."""
    outcomes = pool.run_many(Program("def main(input):\n    return input"), [1, 2, 3])
    assert [(one.output, one.confidence) for one in outcomes] == [(1, None), (2, None), (3, None)]


def test_classifiers_say_how_certain_they_are(pool: ProgramPool) -> None:
    """More so of a mail of known words than of one that has words of both kinds."""
    pytest.importorskip("sklearn")
    examples = [{"input": text, "output": label} for label, texts in MAILS.items() for text in texts]
    made = generate(TaskDescription("spam"), examples)
    assert isinstance(made, Candidate)
    plain, mixed = pool.run_many(Program(made.code), ["win free money now", "free money at the meeting attached"])
    assert plain.output == "spam"
    assert plain.confidence is not None
    assert mixed.confidence is not None
    assert 0.5 <= mixed.confidence < plain.confidence <= 1


@pytest.mark.slow
def test_several_fields_are_as_certain_as_the_least(pool: ProgramPool) -> None:
    """A field that is not chosen among labels has no say."""
    pytest.importorskip("sklearn")
    examples = [
        {"input": {"text": text, "id": f"A-{n}"}, "output": {"label": label, "number": str(n)}}
        for n, (label, text) in enumerate((label, text) for label, texts in MAILS.items() for text in texts)
    ]
    made = generate(TaskDescription("spam"), examples)
    assert isinstance(made, Candidate)
    outcome = pool.run(Program(made.code), {"text": "win free money now", "id": "A-77"})
    assert outcome.output == {"label": "spam", "number": "77"}
    assert outcome.confidence is not None
    assert outcome.confidence > 0.5


def test_trees_and_labels_of_several_kinds_are_certain_too(pool: ProgramPool) -> None:
    """A rule says the share of the examples at the end of its branch; more than two labels have shares as well."""
    pytest.importorskip("sklearn")
    rule = [{"input": {"amount": n}, "output": "large" if n > 50 else "small"} for n in range(0, 100, 3)]
    made = generate(TaskDescription("size"), rule)
    assert isinstance(made, Candidate)
    outcome = pool.run(Program(made.code), {"amount": 90})
    assert outcome.output == "large"
    assert outcome.confidence is not None
    assert outcome.confidence > 0.9
    words = {"fruit": "apple pear plum", "tool": "hammer saw drill", "pet": "cat dog hamster"}
    three = [
        {"input": f"a {word} and a {other}", "output": kind}
        for kind, own in words.items() for word in own.split() for other in own.split()
    ]  # fmt: skip
    made = generate(TaskDescription("kind"), three)
    assert isinstance(made, Candidate)
    outcome = pool.run(Program(made.code), "a cat and a dog")
    assert outcome.output == "pet"
    assert outcome.confidence is not None
    assert outcome.confidence > 0.5
