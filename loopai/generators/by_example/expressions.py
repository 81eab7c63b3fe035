"""Expressions over the input: a value for each example, a cost, and Python source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..literals import literal

Path = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Expression:
    """One step and its operands.

    `values` holds its value for each example, None where it does not apply. `template` is its source, with `{0}`, `{1}`
    for the operands; `function` computes the same. `cost` says how much it assumes: of equals, the cheapest is chosen.
    """

    template: str
    function: Callable[..., Any]
    operands: tuple[Expression, ...]
    cost: float
    values: tuple[Any, ...]
    path: Path | None = None
    named: str = ""  # a derived value that programs keep in a variable of this name
    in_floats: tuple[tuple[str, Callable[..., Any]], ...] = ()  # its templates and functions in floating point
    cache: dict[int, Any] = field(default_factory=dict, repr=False)

    def evaluate(self, value: Any) -> Any:
        """Return the value for one input. Raises ValueError if the expression does not apply."""
        if self.path is not None:
            return self.function(value, self.path)
        return self.function(*(operand.evaluate(value) for operand in self.operands))

    def source(self, names: dict[int, str]) -> str:
        """Return the Python source; `names` maps the `id` of an expression to the variable that holds it."""
        if id(self) in names:
            return names[id(self)]
        return self.template.format(*(operand.source(names) for operand in self.operands))

    def walk(self) -> list[Expression]:
        """Return this expression and all below it, operands first."""
        found: list[Expression] = []
        for operand in self.operands:
            found += [one for one in operand.walk() if all(one is not other for other in found)]
        return [*found, self]


def braces(text: str) -> str:
    """Return source for a template, in which braces are literal."""
    return text.replace("{", "{{").replace("}", "}}")


def quoted(value: Any) -> str:
    """Return `value` as source for a template."""
    return braces(literal(value))


def constant(text: str, count: int, cost: float) -> Expression:
    """Return the expression that is always `text`."""
    return Expression(quoted(text), lambda: text, (), cost, (text,) * count)


def leaf(path: Path, function: Callable[[Any, Path], Any], inputs: Sequence[Any], cost: float) -> Expression:
    """Return the expression that reads the input at `path`."""
    values = []
    for value in inputs:
        try:
            values.append(function(value, path))
        except ValueError:
            values.append(None)
    template = f"{function.__name__}(input, {quoted(path)})"
    return Expression(template, function, (), cost, tuple(values), path, "_".join(map(str, path)) or "text")


def applied(
    template: str,
    function: Callable[..., Any],
    operands: tuple[Expression, ...],
    cost: float,
    named: str = "",
    in_floats: tuple[tuple[str, Callable[..., Any]], ...] = (),
) -> Expression | None:
    """Return `function` of the operands, or None if it applies to no example."""
    values: list[Any] = []
    for row in zip(*(operand.values for operand in operands)):
        if None in row:
            values.append(None)
            continue
        try:
            values.append(function(*row))
        except (ValueError, ArithmeticError, IndexError):
            values.append(None)
    if all(value is None for value in values):
        return None
    return Expression(
        template, function, operands, cost + sum(one.cost for one in operands), tuple(values), None, named, in_floats
    )
