"""Write trees as source: a single one as nested ifs, several as a table that a loop follows."""

from __future__ import annotations

from ..literals import literal, rounded
from .learnt import Columns, LabelLeaf, Learnt, Node, TreeModel
from .writing_linear import CERTAIN, answer_lines, labels_line, start_line

_CERTAIN = ", and how certain it is (the share of examples there)"

# The function that all trees of a program share.
FOLLOW = '''def follow(tree, columns):
    """The number at the end of the branch that fits."""
    while isinstance(tree, tuple):
        column, limit, below, above = tree
        tree = below if columns[column] <= limit else above
    return tree'''


def trees_source(one: Learnt, model: TreeModel, function: str, prefix: str) -> str:
    """The tables and functions of one output field."""
    used = {column for trees in model.trees for tree in trees for column in _used(tree)}
    look = function.replace("answer", "columns_of", 1) if one.target.key is not None else "columns_of"
    columns = _columns(model.columns, used, look)
    if model.summed:
        return "\n\n\n".join([_table(one, model, prefix), columns, _sum(one, model, function, prefix, look)])
    body = [
        f"def {function}(fields):",
        f'    """The answer at the end of the branch that fits{_CERTAIN if one.target.is_class else ""}."""',
        f"    columns = {look}(fields)",
        *_branches(one, model.trees[0][0], 1),
    ]
    return columns + "\n\n\n" + "\n".join(body)


def _table(one: Learnt, model: TreeModel, prefix: str) -> str:
    many = len(model.start) > 1
    lines = [labels_line(one, prefix)] if one.target.is_class else []
    lines.append("# Each tree is (column, limit, at most the limit, above it), down to the number that a branch adds.")
    if many:
        lines.append("# Each round has one tree for each answer.")
    lines.append(f"{prefix}TREES = [")
    for trees in model.trees:
        shown = [_node(tree) for tree in trees]
        lines.append(f"    [{', '.join(shown)}]," if many else f"    {shown[0]},")
    return "\n".join([*lines, "]"])


def _sum(one: Learnt, model: TreeModel, function: str, prefix: str, look: str) -> str:
    many = len(model.start) > 1
    if many:
        steps = [
            start_line(model.start),
            f"    for trees in {prefix}TREES:",
            "        scores = [score + follow(tree, columns) for score, tree in zip(scores, trees)]",
        ]
    else:
        steps = [
            start_line(model.start),
            f"    for tree in {prefix}TREES:",
            "        score += follow(tree, columns)",
        ]
    return "\n".join(
        [
            f"def {function}(fields):",
            f'    """What all trees together come to{CERTAIN if one.target.is_class else ""}."""',
            f"    columns = {look}(fields)",
            *steps,
            *answer_lines(one, prefix, many=many),
        ]
    )


def _used(tree: Node) -> set[str]:
    return {tree[0]} | _used(tree[2]) | _used(tree[3]) if isinstance(tree, tuple) else set()


def _columns(columns: Columns, used: set[str], look: str) -> str:
    lines = [
        f"def {look}(fields):",
        '    """What the trees look at: numbers (their mean where missing), and 1 for what is so."""',
        "    return {",
    ]
    for column, (field, mean) in columns.numbers.items():
        if column in used:
            value = f"fields[{literal(field)}]"
            lines.append(f"        {literal(column)}: {rounded(mean, 9)} if {value} is None else {value},")
    for column, field in columns.missing.items():
        if column in used:
            lines.append(f"        {literal(column)}: 1 if fields[{literal(field)}] is None else 0,")
    for column, (field, category) in columns.choices.items():
        if column in used:
            test = "is" if category is None or isinstance(category, bool) else "=="
            lines.append(f"        {literal(column)}: 1 if fields[{literal(field)}] {test} {literal(category)} else 0,")
    return "\n".join([*lines, "    }"])


def _node(tree: Node) -> str:
    if isinstance(tree, tuple):
        return f"({literal(tree[0])}, {tree[1]!r}, {_node(tree[2])}, {_node(tree[3])})"
    return rounded(_amount(tree))


def _amount(leaf: float | LabelLeaf) -> float:
    return float(leaf.label) if isinstance(leaf, LabelLeaf) else leaf


def _branches(one: Learnt, tree: Node, depth: int) -> list[str]:
    pad = "    " * depth
    if isinstance(tree, LabelLeaf):
        return [f"{pad}return {literal(one.target.labels[tree.label])}, {tree.certainty!r}"]
    if not isinstance(tree, tuple):
        return [f"{pad}return {round(tree) if one.target.whole else rounded(tree, 7)}"]
    column, limit, below, above = tree
    return [
        f"{pad}if columns[{literal(column)}] <= {limit!r}:",
        *_branches(one, below, depth + 1),
        *_branches(one, above, depth),
    ]
