"""Programs' processes through forks, threads and the end of the process: scripts of their own, run to their end."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import psutil
import pytest

if sys.version_info < (3, 10):
    pytest.skip("the sandbox needs Python 3.10", allow_module_level=True)
if not hasattr(__import__("os"), "fork"):
    pytest.skip("no fork on this system", allow_module_level=True)

pytestmark = pytest.mark.slow

# From 3.12 on Python warns of any fork in a process with threads; that is the user's doing, and what is tested.
START = """
import os, sys, threading, warnings
warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
from loopai.programs import Program, ProgramPool
program, looping = Program(*DOUBLING), Program(*LOOPING)
pool = ProgramPool(processes=2)

def children(work, count=3):
    pids = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work(number)
                code = 0
            finally:
                sys.stdout.flush()
                LEAVE(code)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]

def use(number):
    for n in range(20):
        outcome = pool.run(program, [number, n])
        assert outcome.output == [[number, n]] * 2, outcome
    assert [each.output for each in pool.run_many(program, list(range(20)))] == [[n, n] for n in range(20)]

def processes():
    import psutil
    return [child.pid for child in psutil.Process().children(recursive=True)]

def loop():
    threading.Thread(target=pool.run, args=(looping, 1), kwargs={"timeout_ms": 60000}, daemon=True).start()
    while not processes():
        pass
"""

WAYS_TO_END = ["", "os._exit(0)", "pool.close()"]


DOUBLING = {
    "python": "def main(input):\n    return [input] * 2",
    "typescript": "function main(input) { return [input, input] }",
}
LOOPING = {
    "python": "def main(input):\n    while True:\n        pass",
    "typescript": "function main() { for (;;); }",
}

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(params=["python", "typescript"])
def language(request: pytest.FixtureRequest) -> str:
    if request.param == "typescript":
        pytest.importorskip("deno")
    return str(request.param)


@pytest.fixture
def run(language: str) -> Run:
    """Runs a script in a process of its own, which has a pool, a program of the language and one that loops."""

    def run(script: str, leave: str = "os._exit", **options: Any) -> subprocess.CompletedProcess[str]:
        source = START.replace("LEAVE", leave) + textwrap.dedent(script)
        for name, code in (("DOUBLING", DOUBLING), ("LOOPING", LOOPING)):
            source = source.replace(f"*{name}", f"{code[language]!r}, {language!r}")
        command = [sys.executable, "-W", "error", "-c", source]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)

    return run


def gone(pids: str) -> bool:
    """Whether none of the processes still runs; one that has ended and waits to be collected does not run."""
    left = [psutil.Process(int(pid)) for pid in pids.split() if psutil.pid_exists(int(pid))]
    _, alive = psutil.wait_procs(left, timeout=5)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in alive)


@pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
@pytest.mark.parametrize("before", ["pass", "use(9)", "use(9); pool.run(program, 1, timeout_ms=77)"])
def test_children_and_parent_all_get_their_own_answers(run: Run, before: str, leave: str) -> None:
    """Whether the pool was warm at the fork or not, and however the children end, the parent's goes on working."""
    script = f"""
    {before}
    codes = children(use)
    use(10)
    codes += children(use)
    use(11)
    print(codes)
    """
    done = run(script, leave)
    assert (done.stdout, done.stderr, done.returncode) == (f"{[0] * 6}\n", "", 0)


def test_children_that_do_not_run_programs_leave_the_parents_alone(run: Run) -> None:
    """Neither their end nor closing the inherited pool reaches the parent's workers; nor a collection of garbage."""
    script = """
    import gc
    use(1)
    mine = processes()
    def nothing(number):
        pass
    def close(number):
        pool.close()
    def drop(number):
        global pool
        del pool
        gc.collect()
    print(children(nothing) + children(close) + children(drop))
    use(2)
    print(set(mine) <= set(processes()))
    """
    done = run(script, "sys.exit")
    assert (done.stdout, done.stderr, done.returncode) == (f"{[0] * 9}\nTrue\n", "", 0)


def test_a_fork_while_other_threads_run_programs(run: Run) -> None:
    """A lock that another thread held at the fork does not stop the child, and the threads' answers stay right."""
    script = """
    done = threading.Event()
    wrong = []
    def busy(number):
        while not done.is_set():
            if pool.run(program, number).output != [number] * 2:
                wrong.append(number)
    threads = [threading.Thread(target=busy, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    codes = children(use) + children(use)
    done.set()
    for thread in threads:
        thread.join()
    print(codes, wrong)
    """
    done = run(script)
    assert (done.stdout, done.stderr, done.returncode) == (f"{[0] * 6} []\n", "", 0)


def test_a_grandchild_works_too(run: Run) -> None:
    """A child whose pool is warm forks again."""
    script = """
    use(1)
    def again(number):
        use(number)
        assert children(use, 2) == [0, 0]
        use(number)
    print(children(again, 2))
    use(2)
    """
    done = run(script)
    assert (done.stdout, done.stderr, done.returncode) == ("[0, 0]\n", "", 0)


@pytest.mark.parametrize("end", ["sys.exit(0)", "os.kill(os.getpid(), 9)", *WAYS_TO_END])
@pytest.mark.parametrize(
    ("language", "before"),
    # A Python program that loops ends with its time limit, whoever started it.
    [("python", "use(1)"), ("typescript", "use(1)"), ("typescript", "loop()")],
    indirect=["language"],
)
def test_no_process_outlives_its_parent(run: Run, end: str, before: str) -> None:
    """However the parent ends, closed or not and without a word, and though a program loops in one of them."""
    done = run(f"{before}\nprint(*processes(), flush=True)\n{end}\n")
    assert done.stderr == ""
    assert done.stdout.split()
    assert gone(done.stdout)


@pytest.mark.parametrize("language", ["typescript"], indirect=True)  # the pipes of Python's are the library's
def test_no_process_outlives_its_parent_where_a_child_of_it_lives_on(run: Run) -> None:
    """A child that inherited everything keeps nothing alive."""
    script = """
    use(1)
    print(*processes(), flush=True)
    pid = os.fork()
    if pid == 0:
        os.close(1)
        os.close(2)
        import signal
        signal.alarm(20)
        signal.pause()
    print(pid, flush=True)
    os.kill(os.getpid(), 9)
    """
    done = run(script)
    mine, child = done.stdout.split("\n")[:2]
    try:
        assert gone(mine)
        assert psutil.pid_exists(int(child))
    finally:
        psutil.Process(int(child)).kill()


def test_threads_that_end_take_no_process_with_them(run: Run) -> None:
    """The thread whose call started a process may end; the process serves the next one."""
    script = """
    for _ in range(3):
        thread = threading.Thread(target=use, args=(1,))
        thread.start()
        thread.join()
        seen = processes()
    use(2)
    print(processes() == seen)
    """
    done = run(script)
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


def test_a_signal_at_the_terminal_is_the_parents(run: Run) -> None:
    """Ctrl-C reaches the whole group of processes; a call in progress comes to its own end, and others follow."""
    script = """
    import signal
    caught = []
    signal.signal(signal.SIGINT, lambda *_: caught.append(1))
    use(1)
    threading.Timer(0.1, lambda: os.killpg(0, signal.SIGINT)).start()
    print(pool.run(looping, 1, timeout_ms=400).error, caught)
    use(2)
    """
    done = run(script, start_new_session=True)
    assert (done.stdout, done.stderr) == ("Execution timeout after 400ms [1]\n", "")


def test_importing_starts_nothing() -> None:
    """No process and no thread, with a pool or without; without one the sandbox is not even imported."""
    script = """
    import sys, psutil, loopai.programs
    assert "pydantic_monty" not in sys.modules
    loopai.programs.ProgramPool()
    assert psutil.Process().children() == [] and psutil.Process().num_threads() == 1
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
