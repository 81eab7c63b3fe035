"""Programs that mean harm, or might as well: each ends as an outcome, and the next program runs right."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the sandbox needs Python 3.10", allow_module_level=True)

from loopai.programs import Program, ProgramOutcome, ProgramPool
from loopai.programs.failures import LONGEST_MESSAGE

NORMAL = Program("def main(input):\n    return {'twice': input['n'] * 2}")
TIMEOUT_MS = 600
TIMEOUT = f"Execution timeout after {TIMEOUT_MS}ms"
PLENTY_MS = 30_000  # for what ends by itself, however busy the machine is
MEMORY = "Memory limit of 32 MB exceeded"
RECURSION = "maximum recursion depth exceeded"


@pytest.fixture(scope="module")
def pool() -> Iterator[ProgramPool]:
    with ProgramPool(processes=2, max_memory_mb=32) as pool:
        yield pool


def main(body: str) -> str:
    return "def main(input):\n" + "".join(f"    {line}\n" for line in body.split("\n"))


FAILING = {
    # time
    "loop": (main("while True:\n    pass"), TIMEOUT),
    "loop at load": ("while True:\n    pass", TIMEOUT),
    "loop that catches": (
        main("while True:\n    try:\n        while True: pass\n    except BaseException: pass"),
        TIMEOUT,
    ),
    "loop in finally": (main("while True:\n    try:\n        pass\n    finally:\n        continue"), TIMEOUT),
    "loop in exec": (main("exec('while True: pass')"), TIMEOUT),
    "async loop": ("import asyncio\nasync def main(input):\n    while True:\n        await asyncio.sleep(0)", TIMEOUT),
    "sleep for ever": ("import time\n" + main("while True:\n    time.sleep(5)"), TIMEOUT),
    "print for ever": (main("while True:\n    print('a' * 1000)"), TIMEOUT),
    "print marks": ("import sys\n" + main("while True:\n    print('\\x1e0\\x1e', file=sys.stderr)"), TIMEOUT),
    "huge sum": (main("return sum(range(10**12))"), TIMEOUT),
    "huge factorial": ("import math\n" + main("return math.factorial(10**7) % 7"), MEMORY),
    "slow hash": ("import hashlib\n" + main("return hashlib.pbkdf2_hmac('sha256', b'a', b'b', 10**9).hex()"), TIMEOUT),
    "backtracking": ("import re\n" + main(r"return re.match(r'(a*)*\1b', 'a' * 40)"), "backtracking"),
    # memory
    "list bomb": (main("x = [0]\nwhile True:\n    x = x + x"), MEMORY),
    "list product": (main("return [0] * 10**11"), MEMORY),
    "text product": (main("return 'a' * 10**12"), MEMORY),
    "text doubling": (main("x = 'a'\nwhile True:\n    x += x"), MEMORY),
    "dict bomb": (main("d = {}\ni = 0\nwhile True:\n    d[i] = i\n    i += 1"), MEMORY),
    "nested bomb": (main("x = [[0] * 1000] * 1000\nreturn [y * 1000 for y in x] * 1000"), MEMORY),
    "huge power": (main("return 10 ** (10**9)"), MEMORY),
    "huge shift": (main("return 1 << 10**12"), MEMORY),
    "sorted range": (main("return sorted(range(10**10))"), MEMORY),
    "generator bomb": (main("return [x for x in (y for y in range(10**10))]"), MEMORY),
    "zip bomb": (main("return list(zip(range(10**9), range(10**9)))"), MEMORY),
    "format width": (main("return '{:>1000000000000}'.format(1)"), MEMORY),
    "replace bomb": (main("return ('a' * 10**6).replace('a', 'b' * 10**6)"), MEMORY),
    "memory caught": (main("try:\n    return 'a' * 10**12\nexcept MemoryError:\n    return 'fine'"), MEMORY),
    "gather for ever": ("import asyncio\nasync def main(input):\n    await asyncio.gather(main(1), main(2))", MEMORY),
    "deep list": (main("x = []\nwhile True:\n    x = [x]"), MEMORY),
    # the stack
    "recursion": (main("return main(input)"), RECURSION),
    "mutual recursion": ("def f(x):\n    return main(x)\n" + main("return f(input)"), RECURSION),
    "lambda recursion": (main("f = lambda f: f(f)\nreturn f(f)"), RECURSION),
    "deep result": (main("x = []\nfor i in range(5000):\n    x = [x]\nreturn x"), RECURSION),
    "deep comparison": (
        main("x = []\ny = []\nfor i in range(9999):\n    x = [x]\n    y = [y]\nreturn x == y"),
        RECURSION,
    ),
    "deep source": (main("return " + "-" * 5000 + "1"), "too deeply nested"),
    "deep eval": (main("return eval('(' * 5000 + ')' * 5000)"), "too deeply nested"),
    # the machine
    "read a file": (main("return open('/etc/passwd').read()"), "Permission denied"),
    "write a file": (main("with open('/tmp/x', 'w') as f:\n    f.write('x')"), "Permission denied"),
    "read by path": ("import pathlib\n" + main("return pathlib.Path('/etc/passwd').read_text()"), "Permission denied"),
    "knock for ever": (
        main("while True:\n    try:\n        open('x')\n    except Exception:\n        pass"),
        "outside the program",
    ),
    "environment": ("import os\n" + main("return dict(os.environ)"), "not supported"),
    "shell": ("import os\n" + main("return os.system('id')"), "no attribute 'system'"),
    "process": ("import subprocess\n" + main("return subprocess.run(['id'])"), "No module named 'subprocess'"),
    "socket": ("import socket\n" + main("return 1"), "No module named 'socket'"),
    "foreign function": ("import ctypes\n" + main("return 1"), "No module named 'ctypes'"),
    "loaded modules": ("import sys\n" + main("return list(sys.modules)"), "no attribute 'modules'"),
    "import by name": (main("return __import__('os').system('id')"), "__import__"),
    # the interpreter
    "subclasses": (main("return ().__class__.__bases__[0].__subclasses__()"), "no attribute '__class__'"),
    "function globals": (main("return main.__globals__"), "no attribute '__globals__'"),
    "format attribute": (main("return '{0.__class__}'.format(1)"), "no attribute '__class__'"),
    "compile": (main("return compile('1', 'a', 'eval')"), "'compile' is not defined"),
    "globals": (main("return globals()"), "'globals' is not defined"),
    "builtins": ("import builtins\n" + main("return 1"), "No module named 'builtins'"),
    "own writer": (
        "def _loopai_call(value):\n    return object\n" + main("return 1"),
        "the program replaced its driver",
    ),
    # what it raises
    "system exit": (main("raise SystemExit"), "SystemExit"),
    "keyboard interrupt": (main("raise KeyboardInterrupt"), "KeyboardInterrupt"),
    "base exception": (main("raise BaseException('out')"), "out"),
    "huge message": (main("raise ValueError('a' * 10**6)"), "a" * LONGEST_MESSAGE + " …"),
    "syntax error": ("def main(input):\n    return (1,\n", "(line 3)"),
    "not supported": (main("yield 1"), "yield expressions (line 2)"),
    "no main": ("x = 1", "main is not defined"),
    "main is a number": ("main = 3", "not callable"),
    "main takes none": ("def main():\n    return 1", "takes 0 positional arguments but 1 was given"),
    "main takes two": ("def main(a, b):\n    return 1", "missing 1 required positional argument"),
    "raises at load": ("x = 1\ny = x / 0\n" + main("return 1"), "division by zero (line 2)"),
    "surrogate source": ("x = '\ud800'\n" + main("return x"), "UTF-8"),
    # what it returns
    "function": (main("return main"), "type function is not JSON serializable"),
    "class": (main("return int"), "type type is not JSON serializable"),
    "instance": ("class A:\n    pass\n" + main("return A()"), "type A is not JSON serializable"),
    "bytes": (main("return b'a'"), "type bytes is not JSON serializable"),
    "set": (main("return {1}"), "type set is not JSON serializable"),
    "nan": (main("return float('nan')"), "not JSON compliant: nan"),
    "infinity": (main("return [1e308 * 10]"), "not JSON compliant: inf"),
    "tuple key": (main("return {(1, 2): 3}"), "not tuple"),
    "itself": (main("x = []\nx.append(x)\nreturn x"), "Circular reference"),
    "much": (main("return 'a' * 11_000_000"), "Output is longer than 10000000 characters"),
    "long number": (main("return 10**5000"), "4300 digits"),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_hostile_program_ends_as_an_error_and_harms_nothing(pool: ProgramPool, name: str) -> None:
    """The outcome says what happened, in time and in bounds, and an ordinary program runs right at once."""
    code, text = FAILING[name]
    timeout_ms = TIMEOUT_MS if text == TIMEOUT else PLENTY_MS
    outcome = pool.run(Program(code), {"n": 1}, timeout_ms=timeout_ms)
    assert not outcome.ok
    assert outcome.output is None
    assert text in (outcome.error or "")
    assert len(outcome.error or "") <= LONGEST_MESSAGE + 100
    assert outcome.latency_ms < timeout_ms + 3000
    assert pool.run(NORMAL, {"n": 21}).output == {"twice": 42}


def test_a_hostile_program_in_a_batch_fails_each_input_on_its_own(pool: ProgramPool) -> None:
    """In a group it is only the guilty input that fails, whatever it dies of."""
    code = main(
        "if input == 3:\n    while True: pass\n"
        "if input == 5:\n    return 'a' * 10**12\n"
        "if input == 7:\n    raise KeyError('seven')\n"
        "if input == 9:\n    raise SystemExit\n"
        "if input == 11:\n    return list(zip(range(10**9), range(10**9)))\n"
        "if input == 13:\n    return {1}\n"
        "return input * 2"
    )
    outcomes = pool.run_many(Program(code), list(range(40)), timeout_ms=TIMEOUT_MS)
    errors = {position: outcome.error for position, outcome in enumerate(outcomes) if not outcome.ok}
    assert errors == {
        3: TIMEOUT,
        5: MEMORY,
        7: "KeyError: seven",
        9: "SystemExit",
        11: MEMORY,
        13: "Object of type set is not JSON serializable",
    }
    assert all(outcome.output == n * 2 for n, outcome in enumerate(outcomes) if outcome.ok)


@pytest.mark.parametrize(
    ("code", "output"),
    [
        pytest.param(main("return (1, (2,))"), [1, [2]], id="tuples become lists"),
        pytest.param(main("return {1: 2, None: 3}"), {"1": 2, "null": 3}, id="keys become strings"),
        pytest.param(main("return None"), None, id="nothing"),
        pytest.param(main("return 10**30"), 10**30, id="large numbers stay exact"),
        pytest.param(main("return 'é\\u2028\\x00'"), "é\u2028\x00", id="any text"),
        pytest.param("len = None\nstr = None\ntype = None\njson = None\n" + main("return 1"), 1, id="builtins rebound"),
        pytest.param("import re\n" + main("return bool(re.match('(a|aa)+$', 'a' * 60 + 'b'))"), False, id="regex"),
        pytest.param("import time\n" + main("time.sleep(3600)\nreturn 1"), 1, id="sleeps last no time"),
        pytest.param("async def main(input):\n    return input['n']", 1, id="async"),
        pytest.param("async def f(x):\n    return x\n\ndef main(input):\n    return f(2)", 2, id="gives a coroutine"),
        pytest.param(
            main("def f():\n    return f()\ntry:\n    f()\nexcept RecursionError:\n    return 1"), 1, id="caught"
        ),
        pytest.param(main("print('noise' * 10**6)\nreturn 1"), 1, id="what is printed is ignored"),
        pytest.param("main = lambda input: input['n']", 1, id="lambda"),
    ],
)
def test_odd_programs_that_are_right(pool: ProgramPool, code: str, output: object) -> None:
    """What looks odd and harms nobody gives its value."""
    assert pool.run(Program(code), {"n": 1}, timeout_ms=TIMEOUT_MS).output == output


def test_a_program_cannot_change_the_callers_input(pool: ProgramPool) -> None:
    """A program works on a copy of its own, in which nothing is shared."""
    shared = [1]
    value = {"a": shared, "b": shared}
    program = Program(main("input['a'].append(2)\nreturn input"))
    assert pool.run(program, value).output == {"a": [1, 2], "b": [1]}
    assert [outcome.output for outcome in pool.run_many(program, [value] * 3)] == [{"a": [1, 2], "b": [1]}] * 3
    assert value == {"a": [1], "b": [1]}


@pytest.mark.parametrize("value", ["\ud800", {"\ud800": 1}, object(), {1, 2}, {(1, 2): 3}, b"a"])
def test_an_input_that_json_cannot_carry_is_an_error_of_its_own(pool: ProgramPool, value: object) -> None:
    """It does not raise, and the other inputs of the batch run."""
    echo = Program(main("return input"))
    outcome = pool.run(echo, value)
    assert (outcome.error or "").startswith(("Input is not JSON", "Input is not valid Unicode"))
    outcomes = pool.run_many(echo, [1, value, 3])
    assert [each.ok for each in outcomes] == [True, False, True]


def test_an_input_without_end_is_an_error(pool: ProgramPool) -> None:
    """A list that holds itself, and one that is nested without end, are refused before anything runs."""
    itself: list[object] = []
    itself.append(itself)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (itself, deep):
        assert pool.run(NORMAL, value) == ProgramOutcome(None, "Input is nested too deeply", 0.0)


def test_nothing_of_the_machine_leaks_in(pool: ProgramPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program sees no environment variable of ours."""
    monkeypatch.setenv("LOOPAI_API_KEY", "secret")
    outcome = pool.run(Program("import os\n" + main("return os.getenv('LOOPAI_API_KEY')")), {})
    assert "secret" not in repr(outcome)
    assert os.environ["LOOPAI_API_KEY"] == "secret"
