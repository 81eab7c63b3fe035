"""The functions that put a program's parts together: `main`, and one that also returns how certain the output is."""

from __future__ import annotations

from collections.abc import Mapping

from ..programs.program import WITH_CONFIDENCE
from .literals import literal
from .parts import Part
from .shapes import Choice, Labels, Leaf, Node, RowNode


def main_of(shape: Node, parts: Mapping[str, Part]) -> list[str]:
    """Return the lines of `main`; with certain parts, it wraps the function that also returns the certainty."""
    writer = _Writer(parts)
    value = writer.value(shape, "    ")
    told = '    """Return the output for one input."""'
    if not any(part.certain for part in parts.values()):
        return ["def main(input):", told, *writer.lines, f"    return {value}"]
    if isinstance(shape, Leaf):
        body = [f"    return {parts[shape.function].call}"]
    else:
        body = ["    certainties = []", *writer.lines, f"    return {value}, min(certainties, default=None)"]
    return [
        f"def {WITH_CONFIDENCE}(input):",
        '    """Return the output for one input, and how certain it is, from 0 to 1."""',
        *body,
        "",
        "",
        "def main(input):",
        told,
        f"    return {WITH_CONFIDENCE}(input)[0]",
    ]


class _Writer:
    """Statements that put the leaves together."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts = parts
        self.lines: list[str] = []
        self._count = 0

    def value(self, node: Node, indent: str) -> str:
        """Return an expression for a node, after adding the statements that it needs."""
        if isinstance(node, Leaf):
            return self._leaf(node, indent)
        if isinstance(node, RowNode):
            return "[" + ", ".join(self.value(item, indent) for item in node.items) + "]"
        if isinstance(node, Labels):
            name = self._name("labels")
            self.lines.append(f"{indent}{name} = []")
            for label, leaf in node.labels:
                condition = self._leaf(leaf, indent)
                self.lines += [f"{indent}if {condition}:", f"{indent}    {name}.append({literal(label)})"]
            return name
        name = self._name("value" if isinstance(node, Choice) else "output")
        if isinstance(node, Choice):
            condition = self._leaf(node.present, indent)
            self.lines += [f"{indent}{name} = None", f"{indent}if {condition}:"]
            inner = self.value(node.inner, indent + "    ")
            self.lines.append(f"{indent}    {name} = {inner}")
            return name
        self.lines.append(f"{indent}{name} = {{}}")
        for key, inner_node in node.keys.items():
            deeper = indent
            if key in node.optional:
                condition = self._leaf(node.optional[key], indent)
                self.lines.append(f"{indent}if {condition}:")
                deeper += "    "
            inner = self.value(inner_node, deeper)
            self.lines.append(f"{deeper}{name}[{literal(key)}] = {inner}")
        return name

    def _leaf(self, leaf: Leaf, indent: str) -> str:
        part = self._parts[leaf.function]
        if not part.certain:
            return part.call
        name = self._name("label")
        self.lines += [f"{indent}{name}, certainty = {part.call}", f"{indent}certainties.append(certainty)"]
        return name

    def _name(self, stem: str) -> str:
        self._count += 1
        return stem if self._count == 1 else f"{stem}_{self._count}"
