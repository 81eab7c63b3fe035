"""Warnings about a new task: schema keywords that cannot be checked, examples that cannot be learnt from."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from ..generators.errors import CannotLearn
from ..programs.input_check import InputCheck
from .trainer import LARGEST_EXAMPLES, too_large

NO_PROGRAM = "no program can be made from these examples"
MOST_WARNINGS = 20
CHECK_SECONDS = 2.0
"""Seconds in which examples are checked against the schemas."""


def task_warnings(input_schema: Any, output_schema: Any, examples: Sequence[Any], *, alone: bool = True) -> list[str]:
    """Return warnings about this task. Raises `SchemaTooLarge`.

    `alone`: programs are made from examples only, without a language model or service.
    """
    warnings: list[str] = []
    checks = []
    for name, schema in (("input_schema", input_schema), ("output_schema", output_schema)):
        check = InputCheck(schema)
        warnings += [f"{name}: {text}" for text in check.warnings]
        checks.append(check)
    if examples:
        warnings += _misfits(examples, *checks)
        warnings += _not_learnable(examples) if alone else []
    if len(warnings) > MOST_WARNINGS:
        warnings[MOST_WARNINGS:] = [f"and {len(warnings) - MOST_WARNINGS} more"]
    return warnings


def _misfits(examples: Sequence[Any], of_input: InputCheck, of_output: InputCheck) -> list[str]:
    give_up = time.monotonic() + CHECK_SECONDS
    found: list[str] = []
    for at, example in enumerate(examples):
        if len(found) > MOST_WARNINGS or time.monotonic() > give_up:
            break
        if isinstance(example, dict):
            for member, check in (("input", of_input), ("output", of_output)):
                if member in example:
                    found += [
                        f"example {at} does not fit the {member}_schema: {path.replace('input', member, 1)}: {text}"
                        for path, text in check.errors(example[member])[:1]
                    ]
    return found


def _not_learnable(examples: Sequence[Any]) -> list[str]:
    # Imported here: a server whose tasks have their own programs does not need it.
    from ..generators.examples import read_examples

    try:
        inputs, outputs, _ = read_examples(examples)
    except CannotLearn as error:
        return [f"{NO_PROGRAM}: {error}"]
    size = len(json.dumps(examples))
    if size > LARGEST_EXAMPLES:
        return [f"{NO_PROGRAM}: {too_large(size)}"]
    if len(inputs) < 2:
        return [f"{NO_PROGRAM}: 1 example is too few: give at least three."]
    if outputs[0] != {} and all(output == outputs[0] for output in outputs):
        return [f"{NO_PROGRAM}: every example has the same output: add examples of the other answers."]
    return []
