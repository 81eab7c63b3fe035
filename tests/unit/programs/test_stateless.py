"""Which programs are called again and again in one session, and that the choice never shows in a result."""

from __future__ import annotations

import sys

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the sandbox needs Python 3.10", allow_module_level=True)

from loopai.programs import Program, ProgramPool
from loopai.programs.stateless import is_stateless

STATELESS = {
    "constant": "def main(x):\n return {'label': 'ham'}",
    "weights": "W = {'a': 1.0}\ndef main(x):\n s = 0.0\n for t in x.lower().split():\n  s += W.get(t, 0.0)\n return s",
    "counts": "def main(x):\n c = {}\n for t in x.split():\n  c[t] = c.get(t, 0) + 1\n return c",
    "counts added": "def main(x):\n c = {}\n"
    " for t in x.split():\n  if t not in c:\n   c[t] = 0\n  c[t] += 1\n return c",
    "counter": "from collections import Counter\ndef main(x):\n c = Counter(x.split())\n c['a'] += 1\n return c",
    "regex": "import re\nR = re.compile('a')\ndef main(x):\n return [m.group(0) for m in R.finditer(x)]",
    "scores": "B = [0.5, 1]\ndef main(x):\n s = list(B)\n for i in range(2):\n  s[i] += x[i]\n return s",
    "scores by class": "C = ['a']\ndef main(x):\n s = {c: 0.0 for c in C}\n s['a'] += x\n return s",
    "table at load": "W = {}\nfor k, v in zip('ab', [1, 2]):\n W[k] = v\ndef main(x):\n return W[x]",
    "index at load": "V = ['a']\nI = {v: i for i, v in enumerate(V)}\ndef main(x):\n return I.get(x)",
    "helpers": "import math\ndef f(x):\n return 1 / (1 + math.exp(-x))\ndef main(x):\n return f(x)",
    "async": "import asyncio\nasync def main(x):\n await asyncio.sleep(0)\n return x",
    "sorting": "def main(x):\n r = sorted(x, key=lambda v: -v)\n r.append(1)\n r.sort()\n return r",
    "stray escape": "def main(x):\n return '\\d'",
}

# Each of these gives another result the second time if its session is used again.
STATEFUL = {
    "global": "n = 0\ndef main(x):\n global n\n n += 1\n return n",
    "list": "N = []\ndef main(x):\n N.append(1)\n return len(N)",
    "dict": "N = {}\ndef main(x):\n N[len(N)] = 1\n return len(N)",
    "alias": "N = [0]\ndef main(x):\n n = N\n n[0] += 1\n return n[0]",
    "alias added to": "N = []\ndef main(x):\n n = N\n n += [1]\n return len(N)",
    "through a helper": "N = []\ndef f(n):\n n.append(1)\ndef main(x):\n f(N)\n return len(N)",
    "parameter added to": "N = []\ndef f(n):\n n += [1]\ndef main(x):\n f(N)\n return len(N)",
    "default": "def main(x, n=[]):\n n.append(1)\n return len(n)",
    "nested": "N = {'a': []}\ndef main(x):\n N['a'].append(1)\n return len(N['a'])",
    "in a copy": "N = {'a': []}\ndef main(x):\n d = dict(N)\n d['a'] += [1]\n return len(N['a'])",
    "in a display": "N = []\ndef main(x):\n d = [N]\n d[0] += [1]\n return len(N)",
    "looped over": "N = [[]]\ndef main(x):\n for n in N:\n  n.append(1)\n return len(N[0])",
    "unpacked": "N = [[]]\ndef main(x):\n n, = N\n n += [1]\n return len(N[0])",
    "method taken": "N = []\ndef main(x):\n list(map(lambda v: N.append(v), [1]))\n return len(N)",
    "default dict": "from collections import defaultdict\n"
    "N = defaultdict(int)\ndef main(x):\n N[len(N)]\n return len(N)",
    "made by a function": "from collections import defaultdict\ndef f():\n return defaultdict(int)\nN = f()\n"
    "def main(x):\n N[len(N)]\n return len(N)",
    "iterator": "N = iter([1, 2])\ndef main(x):\n return [n for n in N]",
    "closure": "def f():\n n = []\n def g():\n  n.append(1)\n  return len(n)\n return g\nG = f()\n"
    "def main(x):\n return G()",
    "class": "class A:\n pass\nA.n = 0\ndef main(x):\n A.n += 1\n return A.n",
    "instance": "class A:\n def __init__(self):\n  self.n = 0\nN = A()\ndef main(x):\n N.n += 1\n return N.n",
    "seeded": "import random\nrandom.seed(1)\ndef main(x):\n return random.random()",
    "exec": "n = 0\nN = {'n': 0}\ndef main(x):\n exec('n += 1', N)\n return N['n']",
    "or": "N = []\ndef main(x):\n n = N or []\n n = x or N\n n += [1]\n return len(N)",
    "changed at load": "W = {'a': 1}\nA = W\nA['a'] = []\ndef main(x):\n w = W.get('a', 0)\n w += [1]\n return len(w)",
    "maximum": "N = [[]]\ndef main(x):\n n = max(N)\n n += [1]\n return len(N[0])",
    "sum with a start": "N = []\ndef main(x):\n n = sum([], N)\n n += [1]\n return len(N)",
    "for target": "N = [0]\ndef main(x):\n r = N[0]\n for N[0] in [5]:\n  pass\n return r",
    "own import": "import json\ndef main(x):\n r = json.dumps([1])\n json = None\n return r",
}


@pytest.mark.parametrize("name", STATELESS)
def test_programs_as_people_write_them_are_called_again_in_one_session(name: str) -> None:
    """They write to what they made in the same call and to nothing else."""
    assert is_stateless(STATELESS[name])


@pytest.mark.parametrize("name", STATEFUL)
def test_a_program_that_may_leave_something_behind_is_not(name: str) -> None:
    """Whatever the way, directly or under another name."""
    assert not is_stateless(STATEFUL[name])


@pytest.mark.parametrize("name", {**STATELESS, **STATEFUL})
def test_each_run_sees_the_program_as_freshly_loaded(name: str) -> None:
    """Four runs with one input give four times the outcome of the first, singly and in a batch."""
    value: object = {"sorting": [3, 1], "scores": [1, 2], "scores by class": 1.0, "helpers": 0.5}.get(name, "a")
    program = Program({**STATELESS, **STATEFUL}[name])
    with ProgramPool(processes=1) as pool:
        outcomes = [pool.run(program, value) for _ in range(4)] + pool.run_many(program, [value] * 4)
    results = {(repr(outcome.output), outcome.error) for outcome in outcomes}
    assert len(results) == 1
    if name in STATELESS:
        assert outcomes[0].ok


def test_source_that_python_cannot_read_is_not_trusted() -> None:
    """Neither a syntax error nor an endless source is called stateless, and neither raises."""
    assert not is_stateless("def main(")
    assert not is_stateless("x = '" + "a" * 1_000_001 + "'")
    assert not is_stateless("\ud800")
