"""Prompts: the task, the examples, what the sandbox supports, and what was wrong. Nothing is sent here."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from ..seam import TaskDescription
from ..whole import Example, Fault
from .sandbox import IMPOSSIBLE, MODULES, POSSIBLE, WITHOUT_USE

LONGEST_EXAMPLE = 4000
"""Characters of an example's input; a longer one is cut."""

LONGEST_SCHEMA = 20_000
LONGEST_DESCRIPTION = 10_000
LONGEST_CODE = 60_000
"""Most characters of a program that a model is shown or may write."""

SAMPLES = "SAMPLE_INPUTS"
"""The name of the list of inputs that a model proposes for a task without examples."""

_MAIN = re.compile(r"^(?:async )?def main\b|^main[ ]*=", re.M)

SYSTEM = f"""You write small Python programs. Each defines `main(input)`, which takes and returns one JSON value.

The program runs in a restricted interpreter, without files, network, processes and third-party packages.
- It may import: {", ".join(MODULES)}. Nothing else, and not {", ".join(WITHOUT_USE)}.
- Besides ordinary statements and expressions it may use: {"; ".join(POSSIBLE)}.
- It cannot use: {"; ".join(IMPOSSIBLE)}.
- It must be deterministic and end within milliseconds, and must not print.

Write general rules that hold for inputs you have not seen. Never compare the input with whole inputs of the examples.
Where an input cannot be answered, raise ValueError with a message. Keep it short and readable.
Answer with exactly one code block in Python and nothing else."""


def first_message(
    task: TaskDescription, examples: Sequence[Example], previous: str | None, fault: Fault | None, *, samples: bool
) -> str:
    """Return the request for a program. With `samples` the model is also asked to propose inputs."""
    parts = [
        f"Task: {task.name}\n{_cut(task.description, LONGEST_DESCRIPTION)}",
        f"JSON schema of the input:\n{_json(task.input_schema, LONGEST_SCHEMA)}",
        f"JSON schema of the output:\n{_json(task.output_schema, LONGEST_SCHEMA)}",
    ]
    if examples:
        lines = [
            f"input: {_json(one.input, LONGEST_EXAMPLE)}\noutput: {_json(one.output, LONGEST_EXAMPLE)}"
            for one in examples
        ]
        parts.append(f"{len(examples)} examples:\n\n" + "\n\n".join(lines))
    if samples:
        parts.append(
            f"Define at the end of the program a list {SAMPLES} of ten different, realistic inputs as literals: the "
            "program is tried on them, and the list is then removed."
        )
    if previous is not None and len(previous) <= LONGEST_CODE:
        parts.append(f"This is the program so far; improve it:\n```python\n{previous.rstrip()}\n```")
        if fault is not None:
            parts.append(f"What is wrong with it: {told(fault)}")
    return "\n\n".join(parts)


def told(fault: Fault) -> str:
    """Describe one kind of fault of a program."""
    if fault.kind == "loads":
        return f"It does not load: {fault.reason}"
    lines = []
    for case in fault.cases:
        lines.append(f"input: {_json(case.input, LONGEST_EXAMPLE)}")
        if fault.kind == "raises":
            lines.append(f"error: {_cut(case.error or '', 500)}")
            continue
        lines.append(f"it returned: {_json(case.output, LONGEST_EXAMPLE)}")
        if fault.kind == "schema":
            lines.append(f"which does not fit the output schema: {_cut(case.error or '', 500)}")
        else:
            lines.append(f"right is: {_json(case.expected, LONGEST_EXAMPLE)}")
    heads = {
        "raises": "It raises, or takes too long:",
        "schema": "It returns what does not fit the schema:",
        "wrong": "It is wrong for these inputs:",
    }
    return "\n".join([heads[fault.kind], *lines])


def repair_message(fault: Fault | None, cut_off: bool) -> str:
    """Return the feedback on an answer; without a fault there was no program in it."""
    if fault is not None:
        return f"{told(fault)}\n\nWrite the whole program again, as one code block."
    if cut_off:
        return "Your answer was cut off. Write a shorter program, as one code block and nothing else."
    return "Your answer had no code block with a program. Answer with one code block in Python and nothing else."


def code_of(text: str) -> str | None:
    """Return the program in an answer: its longest code block that defines `main`, or the whole text; else None."""
    text = text.rpartition("</think>")[2]  # some models send their thinking before the answer
    blocks = list(_blocks(text))
    programs = [block for block in blocks if _MAIN.search(block)] or blocks
    if not programs and "```" not in text and _MAIN.search(text):
        programs = [text]
    return max(programs, key=len).strip("\n") + "\n" if programs else None


def _blocks(text: str) -> Iterator[str]:
    """The closed Python code blocks. Read line by line, since a crafted answer can make a regular expression hang."""
    lines: list[str] = []
    fence, wanted = "", False
    for line in text.splitlines():
        bare = line.strip()
        mark = bare[: len(bare) - len(bare.lstrip(bare[:1]))] if bare[:1] in {"`", "~"} else ""
        if fence:
            if mark.startswith(fence) and mark == bare:
                if wanted:
                    yield textwrap.dedent("\n".join(lines))
                fence = ""
            else:
                lines.append(line)
        elif len(mark) >= 3:
            fence, lines = mark, []
            wanted = bare[len(mark) :].strip().partition(" ")[0].lower() in {"", "python", "py", "python3"}


def _json(value: Any, most: int) -> str:
    return _cut(json.dumps(value, ensure_ascii=False), most)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"
