"""One pool under ordinary use: values and errors, batches, threads, warmth, closing."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

if sys.version_info < (3, 10):
    pytest.skip("the sandbox needs Python 3.10", allow_module_level=True)

from loopai.programs import Program, ProgramPool, UnsupportedLanguage

DOUBLE = Program("def main(input):\n    return input * 2")
LOOP = Program("def main(input):\n    while input == 'loop':\n        pass\n    return input")


@pytest.fixture
def pool() -> Iterator[ProgramPool]:
    with ProgramPool(processes=2) as pool:
        yield pool


def workers() -> set[int]:
    """The sandbox's workers that this process has started and that still run."""
    return {
        child.pid
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and "monty" in child.name()
    }


def test_a_value_comes_back_with_the_time_it_took(pool: ProgramPool) -> None:
    """An outcome is ok, has the value and a latency."""
    outcome = pool.run(DOUBLE, 21)
    assert (outcome.output, outcome.error, outcome.ok) == (42, None, True)
    assert 0 < outcome.latency_ms < 5000


def test_no_worker_starts_before_the_first_run() -> None:
    """Making a pool, and closing one that never ran, starts nothing."""
    before = workers()
    pool = ProgramPool()
    assert workers() == before
    pool.close()


def test_the_message_of_an_exception_is_the_error(pool: ProgramPool) -> None:
    """Its type stands in where there is no message, and before a key, in a single run as in a batch."""
    program = Program(
        "def main(input):\n    if input == 1:\n        raise ValueError('no such label')\n"
        "    if input == 2:\n        raise ValueError\n    return {}[input]"
    )
    errors = ["no such label", "ValueError", "KeyError: 3", "KeyError: 3"]
    assert [pool.run(program, n).error for n in (1, 2, 3, 3)] == errors
    assert [outcome.error for outcome in pool.run_many(program, [1, 2, 3, 3])] == errors


@pytest.mark.parametrize("timeout_ms", [20, 100, 400])
def test_a_run_ends_at_its_own_time_out(pool: ProgramPool, timeout_ms: int) -> None:
    """The error names the time-out that was asked for, and the next call of the same program is right."""
    outcome = pool.run(LOOP, "loop", timeout_ms=timeout_ms)
    assert outcome.error == f"Execution timeout after {timeout_ms}ms"
    assert timeout_ms <= outcome.latency_ms < timeout_ms + 1500
    assert pool.run(LOOP, "on", timeout_ms=5000).output == "on"


def test_no_time_at_all_is_a_time_out_at_once(pool: ProgramPool) -> None:
    """A time-out of 0 runs nothing."""
    before = workers()
    assert pool.run(LOOP, "on", timeout_ms=0).error == "Execution timeout after 0ms"
    assert [outcome.error for outcome in pool.run_many(LOOP, ["on"] * 2, timeout_ms=0)] == [
        "Execution timeout after 0ms"
    ] * 2
    assert workers() == before


def test_a_negative_time_out_is_no_hurry(pool: ProgramPool) -> None:
    """It runs under the longest limit there is."""
    assert pool.run(DOUBLE, 1, timeout_ms=-1).output == 2


def test_a_batch_keeps_its_order_and_its_outcomes_apart(pool: ProgramPool) -> None:
    """Each input has its own outcome and latency at its own place, also in a large batch."""
    inputs = [n if n % 50 else "x" for n in range(1, 501)]
    program = Program("def main(input):\n    return input + 1")
    outcomes = pool.run_many(program, inputs)
    assert [outcome.output for outcome in outcomes] == [None if n == "x" else n + 1 for n in inputs]
    assert sum(not outcome.ok for outcome in outcomes) == 10
    assert all(0 < outcome.latency_ms < 1000 for outcome in outcomes)
    assert pool.run_many(program, []) == []


def test_several_inputs_that_hang_cost_their_time_out_each_and_no_more(pool: ProgramPool) -> None:
    """Two workers share five hanging inputs; the others of their groups come back right."""
    inputs = ["loop" if n in {2, 3, 17, 30, 31} else n for n in range(40)]
    outcomes = pool.run_many(LOOP, inputs, timeout_ms=150)
    assert [outcome.output for outcome in outcomes] == [None if each == "loop" else each for each in inputs]
    assert {outcome.error for outcome in outcomes if not outcome.ok} == {"Execution timeout after 150ms"}


def test_a_batch_of_a_program_with_state_is_as_fresh_as_single_runs(pool: ProgramPool) -> None:
    """Each input meets the program as loaded."""
    program = Program("seen = []\ndef main(input):\n    seen.append(input)\n    return seen")
    assert [outcome.output for outcome in pool.run_many(program, list(range(20)))] == [[n] for n in range(20)]


def test_slow_inputs_do_not_eat_each_others_time(pool: ProgramPool) -> None:
    """A hundred inputs of a twentieth of the time-out each all come through, though all of them take longer."""
    program = Program("def main(input):\n    n = 0\n    for i in range(50_000):\n        n += i\n    return n")
    single = pool.run(program, 0).latency_ms
    outcomes = pool.run_many(program, [0] * 100, timeout_ms=int(single * 20) + 50)
    assert all(outcome.ok for outcome in outcomes)


def test_sixteen_threads_share_two_workers(pool: ProgramPool) -> None:
    """Every thread gets its own answers, from several programs at once."""
    others = workers()  # of other pools in this process
    programs = [Program(f"def main(input):\n    return [input, {n}]") for n in range(5)]

    def one(n: int) -> list[object]:
        program = programs[n % 5]
        if n % 3 == 0:
            return [outcome.output for outcome in pool.run_many(program, [n, n + 1])]
        return [pool.run(program, n).output]

    with ThreadPoolExecutor(16) as threads:
        results = list(threads.map(one, range(480)))
    expected = [[[n, n % 5], [n + 1, n % 5]] if n % 3 == 0 else [[n, n % 5]] for n in range(480)]
    assert results == expected
    assert len(workers() - others) <= 2


def test_a_program_is_loaded_once_and_then_stays_warm() -> None:
    """Loading takes long here; only the first of many calls shows it."""
    program = Program(
        "table = {}\nfor i in range(300_000):\n    table[i] = i\ndef main(input):\n    return table[input]"
    )
    with ProgramPool(processes=1) as pool:
        first, *others = [pool.run(program, n) for n in range(20)]
    assert [outcome.output for outcome in others] == list(range(1, 20))
    assert sum(outcome.latency_ms for outcome in others) < first.latency_ms


def test_more_programs_than_workers_take_turns() -> None:
    """The one that was used longest ago makes room, and no more workers run than were allowed."""
    programs = [Program(f"def main(input):\n    return input + {n}") for n in range(8)]
    before = workers()
    with ProgramPool(processes=2) as pool:
        for _ in range(3):
            assert [pool.run(program, 1).output for program in programs] == [1 + n for n in range(8)]
            assert len(workers() - before) <= 2
    assert workers() == before


def test_a_session_is_renewed_before_what_calls_leave_behind_adds_up() -> None:
    """Many more calls than one session serves give right answers in little memory."""
    with ProgramPool(processes=1, max_memory_mb=1) as pool:
        for _ in range(12):
            outcomes = pool.run_many(DOUBLE, list(range(1000)))
            assert [outcome.output for outcome in outcomes] == [n * 2 for n in range(1000)]


def test_a_worker_that_died_between_runs_is_not_noticed(pool: ProgramPool) -> None:
    """The call that finds its worker dead runs in another."""
    before = workers()
    assert pool.run(DOUBLE, 1).output == 2
    for pid in workers() - before:
        os.kill(pid, signal.SIGKILL)
    assert pool.run(DOUBLE, 2).output == 4
    assert [outcome.output for outcome in pool.run_many(DOUBLE, [1, 2, 3])] == [2, 4, 6]


def test_check_says_what_is_wrong_with_a_program(pool: ProgramPool) -> None:
    """None for a good one; the reason, with its line, for one that does not load or has no main."""
    assert pool.check(DOUBLE) is None
    assert pool.check(Program("async def main(input):\n    return 1")) is None
    assert pool.check(Program("x = 1")) == "main is not defined"
    assert pool.check(Program("main = 1")) == "main is not a function but of type int"
    assert "(line 2)" in (pool.check(Program("def main(input):\n    return (")) or "")
    assert pool.check(Program("import nothing")) == "No module named 'nothing' (line 1)"
    assert pool.check(Program("def main(input):\n    del input")) is not None


def test_another_language_is_refused_by_name(pool: ProgramPool) -> None:
    """Running, in a batch or not, and checking all raise and say what can be run."""
    program = Program("fn main() {}", "rust")
    told = "'rust' cannot be run here; write it in 'python' or 'typescript'"
    with pytest.raises(UnsupportedLanguage, match=told) as caught:
        pool.run(program, 1)
    assert caught.value.language == "rust"
    with pytest.raises(UnsupportedLanguage):
        pool.run_many(program, [])
    with pytest.raises(UnsupportedLanguage):
        pool.check(program)


def test_a_closed_pool_says_so_and_leaves_nothing_behind() -> None:
    """Closing ends the workers, may be repeated, and makes every use an error that says what to do."""
    before = workers()
    pool = ProgramPool(processes=2)
    pool.run(DOUBLE, 1)
    assert workers() - before
    pool.close()
    pool.close()
    assert workers() == before
    for use in (lambda: pool.run(DOUBLE, 1), lambda: pool.run_many(DOUBLE, [1]), lambda: pool.check(DOUBLE)):
        with pytest.raises(RuntimeError, match="closed; make a new one"):
            use()


def test_closing_wakes_those_who_wait_for_a_worker() -> None:
    """A run under way ends by itself; one that had no worker yet raises."""
    pool = ProgramPool(processes=1)
    pool.run(LOOP, "on", timeout_ms=1000)
    ended: list[str | None] = []

    def use() -> None:
        try:
            ended.append(pool.run(LOOP, "loop", timeout_ms=1000).error)
        except RuntimeError as error:
            ended.append(str(error))

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    threads[0].join(0.2)
    pool.close()
    for thread in threads:
        thread.join(10)
    closed = "this ProgramPool is closed; make a new one"
    assert sorted(map(str, ended)) == ["Execution timeout after 1000ms", closed, closed]


@pytest.mark.parametrize("arguments", [{"processes": 0}, {"processes": -1}, {"max_memory_mb": 0}])
def test_a_pool_without_room_is_refused(arguments: dict[str, int]) -> None:
    """The message names the argument."""
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be at least 1"):
        ProgramPool(**arguments)


def test_a_batch_needs_somebody_to_run_it(pool: ProgramPool) -> None:
    """`max_concurrency` is at least 1."""
    with pytest.raises(ValueError, match="max_concurrency must be at least 1, not 0"):
        pool.run_many(DOUBLE, [1], max_concurrency=0)


def test_a_program_leaves_workers_to_others() -> None:
    """`per_program` bounds how many workers one program is at work in, so that another's wait is short."""
    forever = Program("def main(input):\n    while True:\n        pass")
    with ProgramPool(processes=3, per_program=2) as pool:
        threads = [threading.Thread(target=pool.run, args=(forever, 1), kwargs={"timeout_ms": 1500}) for _ in range(4)]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        assert pool.run(Program("def main(input):\n    return input"), 5).output == 5
        assert time.monotonic() - began < 1.4
        for thread in threads:
            thread.join()


def test_a_stopped_batch_runs_no_further_inputs() -> None:
    """`stop` is asked between inputs; its reason is the error of each that has not run."""
    reasons = iter([None, None, None])
    with ProgramPool(processes=1) as pool:
        program = Program("rows = []\ndef main(input):\n    rows.append(input)\n    return input")
        outcomes = pool.run_many(program, list(range(20)), stop=lambda: next(reasons, "nobody waits"))
    ran = [outcome for outcome in outcomes if outcome.ok]
    assert 0 < len(ran) < 20
    assert {outcome.error for outcome in outcomes if not outcome.ok} == {"nobody waits"}


def test_killing_a_pool_ends_what_runs() -> None:
    """`kill` waits for no program: whoever waits for one hears that the pool is closed."""
    pool = ProgramPool()
    forever = Program("def main(input):\n    while True:\n        pass")
    pool.run(forever, 1, timeout_ms=20)
    with ThreadPoolExecutor(2) as threads:
        runs = [
            threads.submit(pool.run, forever, 1, timeout_ms=60_000),
            threads.submit(pool.run_many, forever, [1, 2], timeout_ms=60_000),
        ]
        before = _seconds_at_work()
        while sum(seconds > before.get(pid, 0) + 0.5 for pid, seconds in _seconds_at_work().items()) < 2:
            assert not any(run.done() for run in runs)
        pool.kill()
        for run in runs:
            with pytest.raises(RuntimeError, match="closed"):
                run.result(timeout=10)


def _seconds_at_work() -> dict[int, float]:
    """The CPU seconds of each child: what is started takes less than half of one."""
    return {child.pid: child.cpu_times().user for child in psutil.Process().children()}


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_outputs_nested_too_deeply_are_an_error(opening: str) -> None:
    """Alone and in a group; as deep as allowed is none."""
    closing = "]" if opening == "[" else "}"
    code = f"import json\ndef main(input):\n    return json.loads({opening!r} * input + '1' + {closing!r} * input)"
    with ProgramPool() as pool:
        assert pool.run(Program(code), 64).ok
        for deep in (65, 150):
            assert "nested too deeply" in str(pool.run(Program(code), deep).error)
        errors = [outcome.error for outcome in pool.run_many(Program(code), [1, 64, 65, 150, 2])]
        assert [error is None for error in errors] == [True, True, False, False, True]


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are Linux's")
def test_workers_are_confined_by_the_operating_system() -> None:
    """No new privileges, a bound on address space, no files written, no environment."""
    before = set(psutil.Process().children())
    with ProgramPool(max_memory_mb=64) as pool:
        assert pool.run(Program("def main(input):\n    return input"), 5).output == 5
        [worker] = [child for child in psutil.Process().children() if child not in before]
        assert worker.rlimit(psutil.RLIMIT_AS)[1] == (2 * 64 + 512) * 1024 * 1024
        assert worker.rlimit(psutil.RLIMIT_FSIZE)[1] == 0
        assert worker.rlimit(psutil.RLIMIT_CORE)[1] == 0
        assert worker.environ() == {}
        if shutil.which("setpriv"):
            assert "NoNewPrivs:\t1" in Path(f"/proc/{worker.pid}/status").read_text()
