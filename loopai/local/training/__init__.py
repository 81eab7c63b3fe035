"""From a task's examples to a Python program that needs nothing but itself; running programs is not done here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .errors import CannotLearn
from .trained import TrainedProgram

__all__ = ["CannotLearn", "TrainedProgram", "train"]


def train(
    *,
    name: str,
    description: str,
    input_schema: Any,
    output_schema: Any,
    examples: Sequence[Any],
    random_state: int = 0,
) -> TrainedProgram:
    """The program that the examples teach: Python source defining `main(input)`.

    `examples` are objects `{"input": …, "output": …}`; the schemas say which fields are categories, integers and
    so on where the examples leave it open. The same arguments give the same program. Raises `CannotLearn`, which
    names the remedy, where the examples do not suffice, and `ConfigurationError` where scikit-learn is missing.
    """
    # Imported here: scikit-learn costs a second and 100 MB, which only training is worth.
    from .learning import learn

    return learn(
        name=name,
        description=description,
        input_schema=input_schema,
        output_schema=output_schema,
        examples=examples,
        random_state=random_state,
    )
