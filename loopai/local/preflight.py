"""What can be said of a task when it is created: keywords that cannot be checked, examples that will not teach it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from ..programs.input_check import InputCheck
from .trainer import LARGEST_EXAMPLES, too_large
from .training import CannotLearn
from .training.examples import check_contradictions, check_examples, read_examples
from .training.fields import find_fields
from .training.targets import find_targets

MOST_WARNINGS = 20
CHECK_SECONDS = 2.0
"""How long examples are held against the schemas."""


def task_warnings(input_schema: Any, output_schema: Any, examples: Sequence[Any]) -> list[str]:
    """Return what will go wrong with this task, in words. Raises `SchemaTooLarge`."""
    warnings: list[str] = []
    checks = []
    for name, schema in (("input_schema", input_schema), ("output_schema", output_schema)):
        check = InputCheck(schema)
        warnings += [f"{name}: {text}" for text in check.warnings]
        checks.append(check)
    if examples:
        warnings += _misfits(examples, *checks)
        warnings += _not_learnable(examples, input_schema, output_schema)
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


def _not_learnable(examples: Sequence[Any], input_schema: Any, output_schema: Any) -> list[str]:
    try:
        inputs, outputs = read_examples(examples)
        size = len(json.dumps(examples))
        if size > LARGEST_EXAMPLES:
            return [f"no program can be made from these examples: {too_large(size)}"]
        targets = find_targets(outputs, output_schema)
        check_examples(inputs, targets)
        fields = find_fields(inputs, input_schema)
        check_contradictions(inputs, targets, fields)
    except (CannotLearn, RecursionError) as error:
        return [f"no program can be made from these examples: {error}"]
    if not fields:
        return ["no program can be made from these examples: their inputs are all the same, or hold nothing to read"]
    return []
