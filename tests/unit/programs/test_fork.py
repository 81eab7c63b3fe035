"""Forked children and the end of the process: scripts of their own, run to their end."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import psutil
import pytest

if sys.version_info < (3, 10):
    pytest.skip("the sandbox needs Python 3.10", allow_module_level=True)
if not hasattr(__import__("os"), "fork"):
    pytest.skip("no fork on this system", allow_module_level=True)

# From 3.12 on Python warns of any fork in a process with threads; that is the user's doing, and what is tested.
START = """
import os, sys, threading, time, warnings
warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
from loopai.programs import Program, ProgramPool
program = Program("def main(input):\\n    return [input] * 2")
pool = ProgramPool(processes=2)

def children(work, count=4):
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
    for n in range(50):
        outcome = pool.run(program, [number, n])
        assert outcome.output == [[number, n]] * 2, outcome
    assert [each.output for each in pool.run_many(program, list(range(50)))] == [[n, n] for n in range(50)]
"""

WAYS_TO_END = [pytest.param(end, marks=pytest.mark.slow) for end in ("", "os._exit(0)", "pool.close()")]


def run(script: str, leave: str = "os._exit") -> subprocess.CompletedProcess[str]:
    source = START.replace("LEAVE", leave) + textwrap.dedent(script)
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", source], capture_output=True, text=True, timeout=60, check=False
    )


def gone(pids: str) -> bool:
    """Whether none of the processes still runs; one that has ended and waits to be collected does not run."""
    left = [psutil.Process(int(pid)) for pid in pids.split() if psutil.pid_exists(int(pid))]
    _, alive = psutil.wait_procs(left, timeout=5)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in alive)


@pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
@pytest.mark.parametrize("before", ["pass", "use(9)", "use(9); pool.run(program, 1, timeout_ms=77)"])
def test_children_and_parent_all_get_their_own_answers(before: str, leave: str) -> None:
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
    assert (done.stdout, done.stderr) == (f"{[0] * 8}\n", "")
    assert done.returncode == 0


def test_children_that_do_not_run_programs_leave_the_parents_alone() -> None:
    """Neither their end nor closing the inherited pool reaches the parent's workers; nor a collection of garbage."""
    script = """
    import gc
    use(1)
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
    """
    done = run(script, "sys.exit")
    assert (done.stdout, done.stderr, done.returncode) == (f"{[0] * 12}\n", "", 0)


def test_a_fork_while_other_threads_run_programs() -> None:
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
    assert (done.stdout, done.stderr, done.returncode) == (f"{[0] * 8} []\n", "", 0)


def test_a_grandchild_works_too() -> None:
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
def test_no_worker_outlives_the_process(end: str) -> None:
    """However it ends, closed or not, and without a word."""
    script = f"""
    import psutil
    use(1)
    print(*[child.pid for child in psutil.Process().children()], flush=True)
    {end}
    """
    done = run(script)
    assert done.stderr == ""
    assert done.stdout.split()
    assert gone(done.stdout)


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
