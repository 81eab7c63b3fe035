"""Nothing of a task becomes code: programs made from hostile names, labels, choices and descriptions."""

from __future__ import annotations

import ast
import itertools
import random
from typing import Any

import pytest

pytest.importorskip("pydantic_monty", reason="Monty needs Python 3.10")

from loopai.generators import Candidate, Refusal, TaskDescription, generate  # after the check for Monty
from loopai.generators.literals import comment, docstring, literal
from loopai.programs import Program, ProgramPool

HOSTILE = [
    "\n", "\r", "\r\n", '"', "'", '"""', "'''", "\\", "\\n", "{x}", "%s", "\x00", "\u2028", "\x85", "#",
    "\\N{DIGIT ONE}",
    "\t", "\x0c", "\x1a", "é", "\U0001f600", "\u202e", "def main(input):", "import os", " ", "", "\\\n", "f{1+1}", "*/",
    "\x1b[0m", "\nPWNED = __import__('os').system('id')\n# ", '"""\nPWNED = 1\n"""', "{0}", "}}", "\\x41", "\\",
]  # fmt: skip
# What generated programs consist of; a name that is not here was not written by the generators.
MODULES = {"math", "re", "collections", "decimal"}
STATEMENTS = (ast.Import, ast.ImportFrom, ast.Assign, ast.FunctionDef)
REFUSED = (ast.Global, ast.Nonlocal, ast.ClassDef, ast.AsyncFunctionDef, ast.With, ast.Delete, ast.Lambda, ast.Await)


def hostile(chance: random.Random) -> str:
    return "".join(chance.choice(HOSTILE) for _ in range(chance.randint(1, 4))) + chance.choice("abc")


def check(code: str) -> None:
    """The tree has expected nodes only, and every name is one of the program's own or a harmless built-in."""
    tree = ast.parse(code)
    first, *rest = tree.body
    assert isinstance(first, ast.Expr)  # the docstring
    assert isinstance(first.value, ast.Constant)
    for node in rest:
        assert isinstance(node, STATEMENTS), ast.dump(node)[:200]
    assert [node.name for node in rest if isinstance(node, ast.FunctionDef)].count("main") == 1
    allowed = {
        "ValueError", "Decimal", "Counter", "abs", "all", "any", "bool", "dict", "enumerate", "float", "int",
        "isinstance",
        "len", "list", "max", "min", "object", "range", "round", "set", "sorted", "str", "sum", "tuple", "zip",
        "math", "re",
    }  # fmt: skip
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    assert "PWNED" not in bound
    for name in bound:
        assert name.isidentifier()
        assert name.isascii()
        assert not name.startswith("__")
    for node in ast.walk(tree):
        assert not isinstance(node, REFUSED)
        if isinstance(node, ast.Name):
            assert node.id in allowed | bound, node.id
        elif isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_")
        elif isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= MODULES
        elif isinstance(node, ast.ImportFrom):
            assert node.module in MODULES


def task_of(number: int, chance: random.Random) -> tuple[TaskDescription, list[Any]]:
    where = ["label", "field", "key", "name", "description", "choice", "all"][number % 7]

    def pick(what: str, plain: str) -> str:
        return hostile(chance) if where in (what, "all") else plain

    key, first, second = pick("key", "k"), pick("field", "a"), pick("field", "b")
    if first == second:
        second += "2"
    labels = [pick("label", f"l{n}") + str(n) for n in range(3)]
    choices = [pick("choice", f"c{n}") + str(n) for n in range(4)]
    kind = chance.choice(
        ["two", "three", "amount", "bare", "extract", "join", "date", "range", "table", "list", "labels", "optional"]
    )
    examples = []
    for row in range(24 if kind in ("two", "three", "amount", "bare", "labels") else 8):
        place, size = chance.randrange(4), round(chance.random() * 10, 2)
        word = f"{choices[place]} {chance.randint(1, 99)}"
        value: dict[str, Any] = {
            first: choices[place],
            second: size,
            "t": chance.choice(["foo bar", "baz " + hostile(chance)]),
        }
        made: Any
        if kind in ("two", "bare"):
            made = labels[place % 2]
        elif kind == "three":
            made = labels[place % 3]
        elif kind == "amount":
            made = 3 * size + place
        elif kind == "labels":
            made = [label for label, there in zip(labels, (place % 2, place > 1, True)) if there]
        elif kind == "table":
            value[first], made = f"{choices[place]}{row}", labels[row % 3] + str(row)
        elif kind == "date":
            value[first], made = f"2024-0{1 + row}-1{row}", f"1{row}.0{1 + row}.2024" + labels[0]
        elif kind == "range":
            value[first], made = str(row * 7), f"{row * 7 // 10 * 10}-{row * 7 // 10 * 10 + 10}" + labels[0]
        elif kind == "list":
            value[first], made = ", ".join(f"{label}{row}" for label in ("a", "b", "c")[: 1 + row % 3]), None
            made = value[first].split(", ")
        else:
            value[first], made = word, word.rsplit(" ", maxsplit=1)[-1] + (labels[0] if kind == "join" else "")
        output: Any = made if kind == "bare" else {key: made}
        if kind == "optional" and row % 2:
            output = {"other": row % 4 == 1}
            value["t"] = "without"
        examples.append({"input": value, "output": output})
    return TaskDescription(pick("name", "n"), pick("description", "d")), examples


@pytest.mark.parametrize("number", [0, *(pytest.param(at, marks=pytest.mark.slow) for at in range(1, 21))])
def test_hostile_texts_stay_data(number: int) -> None:
    """Names, labels and descriptions that look like code are neither run nor do they break the program."""
    chance = random.Random(number)
    task, examples = task_of(number, chance)
    made = generate(task, examples)
    if isinstance(made, Refusal):
        return  # the message is data as well
    check(made.code)
    with ProgramPool(processes=1) as pool:
        outcome = pool.run(Program(made.code), examples[0]["input"])
    assert outcome.error is None, made.code


@pytest.mark.parametrize("name", ["\nPWNED = 1\n# ", '"""\nPWNED = 1\n"""', "a' + PWNED + '"])
@pytest.mark.parametrize("model", ["of the logarithm", "for each unit of"])
def test_names_of_numbers_stay_data(name: str, model: str) -> None:
    """Also in models of amounts that multiply, or that are so much for each unit of a number."""
    chance = random.Random(0)
    examples = []
    for _ in range(60):
        size, other = chance.lognormvariate(3, 1), chance.uniform(0, 4)
        amount = 1.7**other * (1 + chance.random() / 10) if model == "of the logarithm" else size * (2 - other)
        examples.append({"input": {name: size, "b": other}, "output": {name: round(amount * chance.gauss(1, 0.05), 3)}})
    made = generate(TaskDescription("n"), examples)
    assert isinstance(made, Candidate)
    assert model in made.model
    check(made.code)
    with ProgramPool(processes=1) as pool:
        outcome = pool.run(Program(made.code), examples[0]["input"])
    assert outcome.output[name] == pytest.approx(examples[0]["output"][name], rel=0.3)


@pytest.mark.slow
def test_the_fuzz_makes_programs_of_every_kind() -> None:
    """The fuzz above is not passed by refusals alone."""
    made = [generate(*task_of(number, random.Random(number))) for number in range(0, 42, 4)]
    programs = [one for one in made if isinstance(one, Candidate)]
    assert len(programs) >= 8
    assert len({one.synthesis_strategy for one in programs}) >= 2


@pytest.mark.parametrize("text", [f"{a}{b}x" for a, b in itertools.product(HOSTILE, HOSTILE[:6])])
def test_a_text_survives_as_literal_comment_and_docstring(text: str) -> None:
    """A literal gives the text back, on one line; a comment stays a comment, and a docstring one expression."""
    assert "\n" not in literal(text)
    assert ast.literal_eval(literal({text: [text, (text,)]})) == {text: [text, (text,)]}
    assert ast.parse("\n".join(comment(text))).body == []
    (only,) = ast.parse("\n".join(docstring(text)) or '""').body
    assert isinstance(only, ast.Expr)
    assert isinstance(only.value, ast.Constant)


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), float("inf"), b"x"])
def test_what_is_no_json_value_is_refused(value: Any) -> None:
    """Only JSON values can be written into a program."""
    with pytest.raises(TypeError, match="cannot be written"):
        literal(value)
