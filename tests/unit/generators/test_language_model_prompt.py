"""What a language model is told, and how its answers are read: the sandbox's list, prompts, blocks, made inputs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("pydantic_monty", reason="the list is held against the sandbox")

from loopai.generators import TaskDescription
from loopai.generators.llm.making import without_samples
from loopai.generators.llm.prompt import SYSTEM, code_of, first_message
from loopai.generators.llm.sandbox import IMPOSSIBLE, MODULES, POSSIBLE, WITHOUT_USE
from loopai.generators.samples import MOST_SAMPLES, sample_inputs
from loopai.generators.whole import Bench, Example, split, with_head
from loopai.programs import Program, ProgramPool
from loopai.programs.input_check import InputCheck


@pytest.fixture(scope="module")
def pool() -> Iterator[ProgramPool]:
    with ProgramPool(processes=1) as made:
        yield made


def test_the_modules_in_the_prompt_are_those_of_the_sandbox(pool: ProgramPool) -> None:
    """Each of the standard library's modules is tried: the list is neither too long nor too short."""
    program = "import {}\n\n\ndef main(input):\n    return 1\n"
    names = [name for name in sys.stdlib_module_names if not name.startswith("_")]
    taken = {name for name in names if pool.check(Program(program.format(name))) is None}
    assert taken == set(MODULES + WITHOUT_USE) & set(names)
    assert ", ".join(MODULES) in SYSTEM


@pytest.mark.parametrize("name", POSSIBLE)
def test_what_the_prompt_allows_runs(pool: ProgramPool, name: str) -> None:
    """Each line of it, by a program."""
    outcome = pool.run(Program(POSSIBLE[name]), None)
    assert (outcome.error, outcome.output) == (None, 1)
    assert name in SYSTEM


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_the_prompt_forbids_does_not_run(pool: ProgramPool, name: str) -> None:
    """Once the sandbox takes it, the line has to go."""
    outcome = pool.run(Program(IMPOSSIBLE[name]), None)
    assert outcome.error is not None or outcome.output != 1
    assert name in SYSTEM


MAIN = "def main(input):\n    return 1\n"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (f"```python\n{MAIN}```", MAIN),
        (f"Sure!\n\n```py\n{MAIN}\n```\nThis returns 1.", MAIN),
        (f"````\n{MAIN}````", MAIN),
        (f"~~~python\n{MAIN}~~~", MAIN),
        (f"```\npip install x\n```\n```python\n{MAIN}```", MAIN),
        (f"```json\n{{}}\n```\n```Python\n{MAIN}```", MAIN),
        (f"```python\nasync {MAIN}```", f"async {MAIN}"),
        (MAIN, MAIN),
        ("I cannot do that.", None),
        ("", None),
        ("```json\n{}\n```", None),
        (f"```python\n{MAIN}", None),
        (f"<think>\n```python\n{MAIN}# no\n```\n</think>\n\n```python\n{MAIN}```", MAIN),
        ("1. So:\n   ```python\n   def main(input):\n       return 1\n   ```", MAIN),
        (f"```python\r\n{MAIN}```".replace("\n", "\r\n").replace("\r\r", "\r"), MAIN),
    ],
)
def test_the_program_in_an_answer(answer: str, code: Any) -> None:
    """One block that defines `main`, whatever stands around it; an unclosed block is none."""
    assert code_of(answer) == code


def test_reading_an_answer_takes_no_time() -> None:
    """Also of one that was made to make it."""
    began = time.perf_counter()
    for text in ("```" * 100_000, "```python\n" * 30_000, "`" * 300_000, "~~~\n```\n" * 30_000, "main " * 50_000):
        code_of(text)
    assert time.perf_counter() - began < 5


def test_long_values_are_cut_in_the_prompt() -> None:
    """A prompt is bounded, whatever the task."""
    long = "word " * 100_000
    task = TaskDescription("t", long, {"description": long}, {})
    prompt = first_message(task, [Example(long, long)] * 30, None, None, samples=False)
    assert len(prompt) < 300_000


def test_proposed_inputs_are_read_and_removed() -> None:
    """As literals only; what is not JSON or no list is left out."""
    code = f'{MAIN}\nSAMPLE_INPUTS = [\n    {{"a": 1}},\n    "b",\n    {{1: 2}},\n    (1, 2),\n]\n'
    assert without_samples(code) == (MAIN, [{"a": 1}, "b"])
    assert without_samples(f"{MAIN}\nSAMPLE_INPUTS = [open('x')]\n") == (MAIN, [])
    assert without_samples("def main(") == ("def main(", [])


@pytest.mark.parametrize(
    ("count", "most", "shown", "held"),
    [(0, 30, 0, 0), (1, 30, 1, 0), (2, 30, 2, 0), (3, 30, 2, 1), (9, 30, 6, 3), (10, 30, 7, 3), (100, 30, 30, 70)],
)
def test_what_is_shown_and_what_is_held_back(count: int, most: int, shown: int, held: int) -> None:
    """30 % of ten or more, at least one of three or more; and what is not shown is held back as well."""
    parts = split([Example(n, n % 2) for n in range(count)], most)
    assert (len(parts[0]), len(parts[1])) == (shown, held)
    assert not {one.input for one in parts[0]} & {one.input for one in parts[1]}


def test_an_input_that_is_shown_is_not_held_back() -> None:
    """A program that remembers it would be right for it."""
    shown, held = split([Example(n % 5, n % 5) for n in range(40)], 30)
    assert shown
    assert held == []


def test_every_answer_has_an_example_among_those_shown() -> None:
    """However rare it is."""
    examples = [Example(n, "a" if n < 97 else f"rare {n}") for n in range(100)]
    shown, _ = split(examples, 4)
    assert len({one.output for one in shown}) == 4


SCHEMAS: list[tuple[Any, int]] = [
    ({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}, 8),
    ({"type": "string", "pattern": "^ORD-[0-9]{5}(-[A-Z]+)?$"}, 15),
    ({"type": "string", "pattern": r"^(\w+)@\w+\.(com|org)$", "maxLength": 40}, 10),
    ({"type": "string", "minLength": 30, "maxLength": 40}, 3),
    ({"type": "string", "format": "date"}, 2),
    ({"type": "integer", "minimum": 3, "maximum": 9}, 3),
    ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 3),
    ({"type": "integer", "multipleOf": 7}, 3),
    ({"enum": ["a", "b", None]}, 3),
    ({"const": {"a": [1]}}, 1),
    ({"type": ["string", "null"]}, 5),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4}, 10),
    (
        {
            "$ref": "#/$defs/tree",
            "$defs": {"tree": {"properties": {"next": {"$ref": "#/$defs/tree"}}, "type": "object"}},
        },
        3,
    ),
    ({"oneOf": [{"type": "integer"}, {"type": "string", "minLength": 1}]}, 8),
    ({"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"required": ["b"]}]}, 5),
    ({"type": "object", "additionalProperties": {"type": "number"}}, 3),
    ({}, 8),
    (True, 8),
    (None, 8),
]


@pytest.mark.parametrize(("schema", "least"), SCHEMAS, ids=lambda value: str(value)[:40])
def test_inputs_are_made_from_a_schema(schema: Any, least: int) -> None:
    """They differ, and all of them fit; the same each time."""
    made = sample_inputs(schema)
    assert least <= len(made) <= MOST_SAMPLES
    check = InputCheck(schema if schema is not None else True)
    assert all(check.errors(value) == [] for value in made)
    assert made == sample_inputs(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"type": "array", "minItems": 10**9},
        {"type": "string", "minLength": 10**9},
        {"type": "string", "pattern": "(a{1000}){1000}"},
        {"type": "string", "pattern": "(?<=x)y("},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 40},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"properties": {f"p{n}": {"$ref": "#"} for n in range(50)}, "type": "object"},
        False,
    ],
    ids=lambda value: str(value)[:40],
)
def test_making_inputs_ends(schema: Any) -> None:
    """Whatever the schema; those that cannot be followed give none."""
    began = time.perf_counter()
    assert sample_inputs(schema) == sample_inputs(schema)
    assert time.perf_counter() - began < 5


def test_proposed_inputs_come_first_where_they_fit() -> None:
    """And are no more than themselves where they do not."""
    made = sample_inputs({"type": "integer"}, [5, "five", 5])
    assert made[0] == 5
    assert "five" not in made


def test_the_head_of_a_program(pool: ProgramPool) -> None:
    """A docstring in the place of the model's own, which nothing can end; comments in TypeScript."""
    told = ['Task "x": say """ and \\ and a line\nbreak', "Not verified."]
    code = with_head(f'"""The model\'s own."""\n\nimport re\n\n\n{MAIN}', "python", told)
    assert "own" not in code
    assert pool.run(Program(code), None).output == 1
    assert code.startswith('"""Task')
    script = with_head("function main(input) { return 1; }\n", "typescript", told)
    assert script.splitlines()[0].startswith("// Task")


def test_a_program_that_never_ends_is_not_run_for_each_input(pool: ProgramPool) -> None:
    """Two inputs show it."""
    bench = Bench(pool, TaskDescription("t"), time.monotonic() + 60, run_ms=150)
    began = time.perf_counter()
    trial = bench.try_on_inputs(Program("def main(input):\n    while True:\n        pass\n"), list(range(200)))
    assert time.perf_counter() - began < 5
    assert (trial.loads, trial.ran) == (True, 0.0)
