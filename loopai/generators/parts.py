"""The part of a program that makes one field of the output, and how parts become one program."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

from .literals import docstring

IMPORTS = {
    "datetime": "import datetime",
    "math": "import math",
    "re": "import re",
    "Counter": "from collections import Counter",
    "Decimal": "from decimal import Decimal",
}
_USED = {
    "datetime": r"\bdatetime\.",
    "math": r"\bmath\.",
    "re": r"\bre\.(?:compile|findall|finditer|match|search|sub|fullmatch|split|escape)\(",
    "Counter": r"\bCounter\(",
    "Decimal": r"\bDecimal\(",
}


@dataclass(frozen=True)
class Part:
    """Source that computes one value. `blocks` are functions and tables; identical ones are written once.

    `call` is an expression over `input`. `strategy` is "dsl", "rule" or "ml"; `told` describes it in one sentence. Of
    equally good parts, the one with the smallest `weight` is taken. If the part is `certain`, `call` returns the value
    and how certain it is, from 0 to 1.
    """

    blocks: tuple[str, ...]
    call: str
    strategy: str
    model: str
    told: str
    weight: float
    estimate: bool = False
    certain: bool = False

    @property
    def value(self) -> str:
        """The expression for the value alone."""
        return f"{self.call}[0]" if self.certain else self.call


def assemble(told: Sequence[str], parts: Sequence[Part], main: Sequence[str]) -> str:
    """Return the program: docstring, imports, the parts' blocks, and the lines of `main`."""
    blocks = list(dict.fromkeys(block for part in parts for block in part.blocks))
    blocks.sort(key=lambda block: block.startswith("def answer"))  # helpers and tables first
    body = "\n\n\n".join([*blocks, "\n".join(main)])
    plain = re.sub(r'"(?:[^"\\\n]|\\.)*"', '""', re.sub(r'"""(?:[^\\]|\\.)*?"""', '""', body))
    imports = [line for name, line in IMPORTS.items() if re.search(_USED[name], plain)]
    lines = _head(told)
    return "\n".join([*lines, *(["", *imports] if imports else []), "", "", body]) + "\n"


def _head(told: Sequence[str]) -> list[str]:
    shown = [docstring(one) for one in told if one.strip()]
    texts = [[line.strip().removeprefix('"""').removesuffix('"""') for line in lines] for lines in shown]
    joined = [
        line for number, lines in enumerate(texts) for line in ([""] if number else []) + [one for one in lines if one]
    ]
    if len(joined) == 1:
        return [f'"""{joined[0]}"""']
    return [f'"""{joined[0]}', *joined[1:], '"""']


def carried(module: ModuleType, code: Sequence[str]) -> list[str]:
    """Return the source of the functions of `module` that `code` calls, directly or indirectly."""
    functions: dict[str, Callable[..., object]] = {
        name: function
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__
    }
    needed: list[str] = []
    pending = list(code)
    while pending:
        text = pending.pop()
        for name, function in functions.items():
            if name not in needed and re.search(rf"\b{name}\(", text):
                needed.append(name)
                pending.append(source_of(function))
    return [source_of(functions[name]) for name in functions if name in needed]


def source_of(function: Callable[..., object]) -> str:
    """Return a function's source as programs carry it: without `type: ignore` comments."""
    return re.sub(r"  # type: ignore.*", "", inspect.getsource(function)).strip()
