"""What the sandbox supports, as the model is told. A test checks every line of it against the sandbox itself."""

from __future__ import annotations

MODULES = (
    "base64",
    "binascii",
    "bisect",
    "collections",
    "copy",
    "csv",
    "dataclasses",
    "datetime",
    "decimal",
    "functools",
    "hashlib",
    "itertools",
    "json",
    "math",
    "random",
    "re",
    "time",
    "tomllib",
    "typing",
    "unicodedata",
)
"""Modules that programs may import and have a use for."""

WITHOUT_USE = ("asyncio", "os", "pathlib", "posixpath", "sys")
"""Modules that can be imported but have no files, processes or clock behind them: the model is told not to use them."""

IMPOSSIBLE = {
    "generator functions (yield)": "def g():\n    yield 1\n\n\ndef main(input):\n    return list(g())[0]\n",
    "del": "def main(input):\n    rows = {1: 1}\n    del rows[1]\n    return 1\n",
    "class inheritance, also of exceptions and Enum": (
        "class E(Exception):\n    pass\n\n\ndef main(input):\n    return 1\n"
    ),
    "@property, @staticmethod and @classmethod": (
        "class A:\n    @staticmethod\n    def f():\n        return 1\n\n\ndef main(input):\n    return A.f()\n"
    ),
    "from x import *": "from math import *\n\n\ndef main(input):\n    return 1\n",
    "collections.OrderedDict": "from collections import OrderedDict\n\n\ndef main(input):\n    return 1\n",
    "str.maketrans": "def main(input):\n    return len('a'.translate(str.maketrans('a', 'b')))\n",
    "re.sub with a function as replacement": (
        "import re\n\n\ndef main(input):\n    return int(re.sub(r'[0-9]', lambda m: '1', '2'))\n"
    ),
    "re.VERBOSE": "import re\n\nP = re.compile(r'[0-9]', re.VERBOSE)\n\n\ndef main(input):\n    return 1\n",
    "next() on a generator expression": "def main(input):\n    return next(x for x in [1])\n",
    "hasattr": "def main(input):\n    return 1 if hasattr('', 'join') else 0\n",
    "files": "def main(input):\n    return len(open('/etc/hostname').read()) * 0 + 1\n",
    "type aliases (type X = …)": "type X = int\n\n\ndef main(input):\n    return 1\n",
    "except*": "def main(input):\n    try:\n        return 1\n    except* ValueError:\n        return 0\n",
}
"""What programs cannot use, with a program that would return 1 if it could."""

POSSIBLE = {
    "functions with defaults, *args and **kwargs": (
        "def f(*a, b=1, **k):\n    return b\n\n\ndef main(input):\n    return f(0)\n"
    ),
    "lambda and closures": "def f(n):\n    return lambda x: x + n\n\n\ndef main(input):\n    return f(0)(1)\n",
    "recursion": "def f(n):\n    return 1 if n == 0 else f(n - 1)\n\n\ndef main(input):\n    return f(50)\n",
    "comprehensions and generator expressions": "def main(input):\n    return sum(x for x in [y for y in {1: 1}])\n",
    "f-strings": "def main(input):\n    return int(f'{1:.0f}')\n",
    "try, except, finally and raise": (
        "def main(input):\n    try:\n        raise ValueError('x')\n    except ValueError:\n        return 1\n"
        "    finally:\n        pass\n"
    ),
    "match": "def main(input):\n    match [1, 2]:\n        case [first, _]:\n            return first\n",
    "sets and frozensets": "W = frozenset({'a'})\n\n\ndef main(input):\n    return len(W & {'a', 'b'})\n",
    "the walrus operator": "def main(input):\n    return n if (n := 1) else 0\n",
    "simple classes and dataclasses": (
        "from dataclasses import dataclass\n\n\n@dataclass\nclass A:\n    x: int\n\n\n"
        "def main(input):\n    return A(1).x\n"
    ),
    "regular expressions with groups, look-ahead and look-behind": (
        "import re\n\n\ndef main(input):\n    return int(re.search(r'(?<=a)(?P<n>[0-9])(?=b)', 'a1b').group('n'))\n"
    ),
    "re.compile, re.sub, re.split, re.findall and re.finditer with re.IGNORECASE": (
        "import re\n\nP = re.compile(r'A', re.IGNORECASE)\n\n\n"
        "def main(input):\n    found = [m.group() for m in P.finditer('a')]\n"
        "    found += re.findall(r'a', '') + re.split(r'a', '')\n"
        "    return 1 if re.sub(r'a', 'b', 'a') == 'b' and found else 0\n"
    ),
}
"""What programs may use besides the ordinary statements, with a program that returns 1."""
