"""Decide whether a program can be called repeatedly in one session: does no call change anything that outlives it?

The analysis of the source is conservative: a program that is rejected here is only slower, since each call then loads
it again, which takes about 35 times as long for a program made from examples and 17 times for a small program of your
own (`make bench ARGS=programs`). Nothing is run. Pass only sources that the sandbox has accepted: it limits their
nesting, on which Python's own parser crashes on 3.10.
"""

# ruff: noqa: SIM905 — eighty words read better as text than as a list of eighty lines

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

__all__ = ["is_stateless"]

# Parsing holds the GIL, about 0.35 s per megabyte for a table of weights.
_LONGEST = 1_000_000
_FILENAME = "<loopai program>"

_WHOLE_MODULES = {"base64", "datetime", "decimal", "hashlib", "json", "math", "re", "time", "typing", "unicodedata"}
_PARTS = {
    "__future__": {"annotations"},
    "asyncio": {"gather", "run", "sleep"},
    "bisect": {"bisect", "bisect_left", "bisect_right"},
    "collections": {"Counter", "defaultdict", "deque"},
    "functools": {"reduce"},
    "itertools": {"accumulate", "chain", "combinations", "groupby", "islice", "pairwise", "product", "repeat"},
}
# Modules whose functions always return a new object or an immutable one.
_FRESH_MODULES = {"json", "math", "re", "unicodedata"}
_EAGER = set(
    "abs all any ascii bin bool bytes chr complex dict divmod float format frozenset hash hex int len list "
    "oct ord pow print range repr round set sorted str tuple".split()
)
_ELEMENTS_AS_THEY_ARE = {"enumerate", "filter", "reversed", "zip"}
_LAZY = _ELEMENTS_AS_THEY_ARE | {"map"}
_BUILTINS = (
    _EAGER
    | _LAZY
    | {"isinstance", "max", "min", "sum", "type", "__name__"}
    | set(
        "ArithmeticError AssertionError AttributeError BaseException Exception IndexError KeyError LookupError "
        "NotImplementedError OverflowError RecursionError RuntimeError StopIteration TypeError UnicodeError "
        "ValueError ZeroDivisionError object".split()
    )
)
_READING = set(
    "lower upper casefold strip lstrip rstrip split rsplit splitlines replace join startswith endswith find rfind "
    "index rindex count partition rpartition isalpha isdigit isalnum isspace isupper islower istitle isnumeric "
    "isdecimal isidentifier isascii title capitalize swapcase zfill removeprefix removesuffix center ljust rjust "
    "encode decode format expandtabs get items keys values copy most_common total union intersection difference "
    "symmetric_difference issubset issuperset isdisjoint findall search match fullmatch sub subn group groups "
    "groupdict start end span is_integer bit_length isoformat weekday strftime year month day hour minute second "
    "days hexdigest fromkeys".split()
)
_GIVES_FRESH = _READING - {"get"}
# These are consumed by iteration; harmless if they live no longer than a call.
_READING_ONCE = {"finditer", "elements"}
_KEEPS_OWNED = {"add", "append", "clear", "discard", "insert", "pop", "popleft", "remove", "reverse", "sort"}
_MUTATING = _KEEPS_OWNED | {"appendleft", "extend", "extendleft", "popitem", "setdefault", "subtract", "update"}

_Function = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_Comprehension = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_REFUSED = (
    ast.AsyncFor,
    ast.AsyncWith,
    ast.ClassDef,
    ast.Delete,
    ast.Global,
    ast.Nonlocal,
    ast.With,
    ast.Yield,
    ast.YieldFrom,
)


def is_stateless(code: str) -> bool:
    """Return whether no call of a function in `code` can change what a later call sees."""
    if len(code) > _LONGEST:
        return False
    # Python warns of a stray backslash in the program as if it were our own source. The filter speaks of this
    # file name only and stays: taking filters back is not safe while other threads run.
    warnings.filterwarnings("ignore", module=_FILENAME)
    try:
        tree = ast.parse(code, _FILENAME)
        return _Module(tree).is_stateless()
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


class _Scope:
    """One function or the module: the nodes that run in it, and what its names are bound to."""

    def __init__(self, root: ast.AST) -> None:
        self.root = root
        self.is_module = isinstance(root, ast.Module)
        self.nodes = list(_own_nodes(root))
        self.bindings: dict[str, list[ast.expr | None]] = {}
        for node in self.nodes:
            self._bind(node)
        if isinstance(root, _Function):
            arguments = root.args
            for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                self._add(argument.arg, None)
            for star in (arguments.vararg, arguments.kwarg):
                if star is not None:
                    self._add(star.arg, None)

    def _add(self, name: str, value: ast.expr | None) -> None:
        self.bindings.setdefault(name, []).append(value)

    def _bind(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._bind_target(target, node.value)
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
            if node.value is not None:
                self._bind_target(node.target, node.value)
        elif isinstance(node, (ast.For, ast.comprehension)):
            self._bind_target(node.target, None)
        elif isinstance(node, (ast.ExceptHandler, ast.FunctionDef, ast.AsyncFunctionDef, ast.MatchAs, ast.MatchStar)):
            if node.name:
                self._add(node.name, None)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                self._add((alias.asname or alias.name).partition(".")[0], None)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            self._add(node.rest, None)

    def _bind_target(self, target: ast.expr, value: ast.expr | None) -> None:
        if isinstance(target, ast.Name):
            self._add(target.id, value)
        elif isinstance(target, ast.Starred):
            self._bind_target(target.value, None)
        elif isinstance(target, (ast.Tuple, ast.List)):
            values: list[ast.expr | None] = [None] * len(target.elts)
            if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts):
                values = list(value.elts)
            for element, part in zip(target.elts, values):
                self._bind_target(element, None if isinstance(part, ast.Starred) else part)


def _own_nodes(root: ast.AST) -> Iterator[ast.AST]:
    """The nodes below `root` that run in its scope: not the bodies of functions inside it, but their defaults."""
    pending: list[ast.AST] = []
    if isinstance(root, ast.Lambda):
        pending.append(root.body)
    elif isinstance(root, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef)):
        pending.extend(root.body)
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, _Function):
            pending.extend(default for default in (*node.args.defaults, *node.args.kw_defaults) if default)
            continue
        pending.extend(ast.iter_child_nodes(node))


def _consumed_on_the_spot(nodes: list[ast.AST], bound: set[str]) -> Iterator[ast.AST]:
    """The iterators that a loop, a comprehension or a constructor consumes immediately."""
    pending: list[ast.expr] = []
    for node in nodes:
        if isinstance(node, (ast.For, ast.comprehension)):
            pending.append(node.iter)
        elif isinstance(node, ast.Call) and _calls_one_of(node, _EAGER | {"max", "min", "sum"}, bound):
            pending.extend(node.args)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.GeneratorExp):
            yield node
        elif isinstance(node, ast.Call) and _calls_one_of(node, _ELEMENTS_AS_THEY_ARE, bound):
            yield node
            pending.extend(node.args)


def _calls_one_of(node: ast.Call, names: set[str], bound: set[str]) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id in names - bound


def _is_constant(node: ast.AST | None) -> bool:
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.operand, ast.Constant)
    if isinstance(node, ast.Tuple):
        return all(_is_constant(element) for element in node.elts)
    return isinstance(node, ast.Constant)


def _is_flat(node: ast.AST | None) -> bool:
    """Whether the value is a display of constants: reading an element returns something immutable."""
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return all(_is_constant(element) for element in node.elts)
    if isinstance(node, ast.Dict):
        return all(_is_constant(element) for element in (*node.keys, *node.values))
    return False


class _Module:
    def __init__(self, tree: ast.Module) -> None:
        everything = list(ast.walk(tree))
        self.refused = any(isinstance(node, _REFUSED) for node in everything)
        self.module = _Scope(tree)
        self.functions = [_Scope(node) for node in everything if isinstance(node, _Function)]
        self.decorated = any(getattr(node, "decorator_list", None) for node in everything)
        scopes = [self.module, *self.functions]
        self.bound = {name for scope in scopes for name in scope.bindings}
        # alias → module, and alias → (module, member)
        self.modules: dict[str, str] = {}
        self.members: dict[str, tuple[str, str]] = {}
        self.harmless_imports = all(
            self._import(node) for node in everything if isinstance(node, (ast.Import, ast.ImportFrom))
        )
        # A name that is an import in one place and something else in another is not relied upon.
        self.imports_clash = any(
            sum(len(scope.bindings.get(name, ())) for scope in scopes) > 1 for name in (*self.modules, *self.members)
        )
        # A table that loading then reads may have been changed there, under this name or another.
        self.used_at_load = {
            node.id for node in self.module.nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        } | {
            node.target.id
            for node in self.module.nodes
            if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name)
        }
        self.consumed = set(_consumed_on_the_spot(self.module.nodes, self.bound))

    def _import(self, node: ast.Import | ast.ImportFrom) -> bool:
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            for alias in node.names:
                if module not in _WHOLE_MODULES and alias.name not in _PARTS.get(module, ()):
                    return False
                self.members[alias.asname or alias.name] = (module, alias.name)
            return True
        for alias in node.names:
            if alias.name not in _WHOLE_MODULES and alias.name not in _PARTS:
                return False
            self.modules[alias.asname or alias.name] = alias.name
        return True

    def is_stateless(self) -> bool:
        if self.refused or self.decorated or not self.harmless_imports or self.imports_clash:
            return False
        if not all(self._holds_nothing_lazy(node) for node in self.module.nodes):
            return False
        return all(self._is_harmless(node, scope) for scope in (self.module, *self.functions) for node in scope.nodes)

    def _member(self, function: ast.expr) -> tuple[str, str] | None:
        """The (module, member) that a called expression names, if it belongs to an imported module."""
        if isinstance(function, ast.Name):
            return self.members.get(function.id)
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            module = self.modules.get(function.value.id)
            return None if module is None else (module, function.attr)
        return None

    def _holds_nothing_lazy(self, node: ast.AST) -> bool:
        """At module level: no iterator, defaultdict or result of an own function, which reading might change.

        What is consumed on the spot, by a loop, a comprehension or a constructor, does not matter.
        """
        if node in self.consumed:
            return True
        if isinstance(node, ast.GeneratorExp):
            return False
        if not isinstance(node, ast.Call):
            return True
        member = self._member(node.func)
        if member is not None:
            return (member[0] in _FRESH_MODULES and member[1] != "finditer") or member == ("collections", "Counter")
        if isinstance(node.func, ast.Attribute):
            return node.func.attr not in _READING_ONCE
        return isinstance(node.func, ast.Name) and node.func.id in _BUILTINS - _LAZY - self.bound

    def _is_harmless(self, node: ast.AST, scope: _Scope) -> bool:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            return node.id in self.bound or node.id in _BUILTINS
        if isinstance(node, ast.Attribute):
            return self._is_harmless_attribute(node, scope)
        if scope.is_module:
            return True
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            return self._is_fresh_name(node.value, scope)
        if isinstance(node, ast.AugAssign):
            if isinstance(node.target, ast.Name):
                return self._is_fresh_name(node.target, scope)
            if isinstance(node.target, ast.Subscript):
                # Adding a number to a list fails; adding what may be a list could change one that is shared.
                number = _is_constant(node.value) and not isinstance(node.value, ast.Tuple)
                number = number and not isinstance(getattr(node.value, "value", None), (str, bytes))
                return (number and not isinstance(node.op, ast.Mult)) or self._is_owned(node.target.value, scope)
        return True

    def _is_harmless_attribute(self, node: ast.Attribute, scope: _Scope) -> bool:
        if not isinstance(node.ctx, ast.Load):
            return False
        if isinstance(node.value, ast.Name) and node.value.id in self.modules:
            module = self.modules[node.value.id]
            return module in _WHOLE_MODULES or node.attr in _PARTS[module]
        if node.attr in _READING or node.attr in _READING_ONCE:
            return True
        return node.attr in _MUTATING and (scope.is_module or self._is_fresh_name(node.value, scope))

    def _is_fresh_name(self, node: ast.expr, scope: _Scope) -> bool:
        """Whether the name is local to the function and each of its values was made in this very call."""
        if not isinstance(node, ast.Name) or scope.is_module:
            return False
        values = scope.bindings.get(node.id)
        return bool(values) and all(value is not None and self._is_fresh(value) for value in values or ())

    def _is_flat_name(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Name) or node.id in self.used_at_load:
            return False
        values = self.module.bindings.get(node.id)
        if not values or any(node.id in scope.bindings for scope in self.functions):
            return False
        return all(_is_flat(value) for value in values)

    def _is_fresh(self, node: ast.expr) -> bool:
        if isinstance(node, (ast.BinOp, ast.UnaryOp, ast.Compare, ast.Constant, ast.JoinedStr, *_Comprehension)):
            return True
        if isinstance(node, (ast.List, ast.Dict, ast.Set, ast.Tuple)):
            return True
        if isinstance(node, ast.BoolOp):
            return all(self._is_fresh(value) for value in node.values)
        if isinstance(node, ast.IfExp):
            return self._is_fresh(node.body) and self._is_fresh(node.orelse)
        if isinstance(node, ast.Subscript):
            return isinstance(node.slice, ast.Slice) or self._is_flat_name(node.value)
        if isinstance(node, ast.Call):
            return self._call_is_fresh(node)
        return False

    def _call_is_fresh(self, node: ast.Call) -> bool:
        member = self._member(node.func)
        if member is not None:
            return member[0] in _FRESH_MODULES or member[0] == "collections"
        if isinstance(node.func, ast.Attribute):
            if node.func.attr == "get":
                return self._is_flat_name(node.func.value) and all(_is_constant(rest) for rest in node.args[1:])
            return node.func.attr in _GIVES_FRESH
        if isinstance(node.func, ast.Name) and node.func.id not in self.bound:
            return node.func.id in _EAGER | _LAZY or (node.func.id == "sum" and len(node.args) == 1)
        return False

    def _is_owned(self, node: ast.expr, scope: _Scope) -> bool:
        """Whether the name is fresh and so is everything that is put in it."""
        if not isinstance(node, ast.Name) or not self._is_fresh_name(node, scope):
            return False
        name = node.id
        if not all(value is not None and self._elements_are_fresh(value) for value in scope.bindings[name]):
            return False
        for other in scope.nodes:
            if isinstance(other, ast.Assign):
                for target in other.targets:
                    if _subscript_of(target, name) and not self._is_fresh(other.value):
                        return False
                    if isinstance(target, (ast.Tuple, ast.List)) and any(
                        _subscript_of(element, name) for element in ast.walk(target)
                    ):
                        return False
            elif isinstance(other, (ast.For, ast.comprehension)):
                if any(_subscript_of(element, name) for element in ast.walk(other.target)):
                    return False
            elif isinstance(other, ast.AugAssign):
                if isinstance(other.target, ast.Name) and other.target.id == name:
                    return False
            elif isinstance(other, ast.Call) and isinstance(other.func, ast.Attribute):
                function = other.func
                if isinstance(function.value, ast.Name) and function.value.id == name:
                    if function.attr in _MUTATING - _KEEPS_OWNED:
                        return False
                    if function.attr in _KEEPS_OWNED and not all(self._is_fresh(a) for a in other.args):
                        return False
        return True

    def _elements_are_fresh(self, node: ast.expr) -> bool:
        if isinstance(node, (ast.List, ast.Set)):
            return all(self._is_fresh(element) for element in node.elts)
        if isinstance(node, ast.Dict):
            return all(key is not None and self._is_fresh(value) for key, value in zip(node.keys, node.values))
        if isinstance(node, (ast.ListComp, ast.SetComp)):
            return self._is_fresh(node.elt)
        if isinstance(node, ast.DictComp):
            return self._is_fresh(node.value)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            return self._elements_are_fresh(node.left) or self._elements_are_fresh(node.right)
        if isinstance(node, ast.Subscript):
            return isinstance(node.slice, ast.Slice) and self._is_flat_name(node.value)
        if isinstance(node, ast.Call):
            member = self._member(node.func)
            if member is not None:
                kind = node.args[0] if node.args else None
                return member == ("collections", "defaultdict") and (
                    isinstance(kind, ast.Name) and kind.id in {"int", "float"} and len(node.args) == 1
                )
            if isinstance(node.func, ast.Attribute):
                return node.func.attr == "copy" and self._is_flat_name(node.func.value)
            if isinstance(node.func, ast.Name) and node.func.id in {"dict", "list", "set", "sorted"}:
                return all(self._is_flat_name(argument) for argument in node.args) and not node.keywords
        return False


def _subscript_of(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == name
