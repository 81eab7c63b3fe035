"""The cost of TypeScript programs in warm Deno processes, compared with a new Deno process for each row."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from deno import find_deno_bin

from loopai.programs import Program, ProgramPool

from .measuring import Goal, Row, group

CODE = """
interface Mail { text: string }
export async function main(input: Mail): Promise<{label: string}> {
  const text = input.text.toLowerCase();
  return { label: /\\b(buy|prize|winner)\\b/.test(text) ? "spam" : "ham" };
}
"""
PROGRAM = Program(CODE, "typescript")
MAIL = {"text": "Please claim your prize at once, dear winner. " * 4}


def children_mb() -> float:
    """Megabytes held by this process's children, counting shared pages once (PSS)."""
    children = psutil.Process().children(recursive=True)
    return sum(float(child.memory_full_info().pss) for child in children) / 1e6


@group("typescript")
def typescript(quick: bool) -> Iterator[list[Row]]:
    rows = 2_000 if quick else 20_000
    calls = 200 if quick else 2_000
    many = 20 if quick else 200

    with tempfile.TemporaryDirectory() as folder, ProgramPool() as pool:
        file = Path(folder) / "program.ts"
        file.write_text(
            f"const input = {{text: 'claim your prize'}};\n{CODE}\nconsole.log(JSON.stringify(await main(input)));"
        )
        command = [find_deno_bin(), "run", "--quiet", "--allow-all", str(file)]

        def new_process_ms() -> float:
            began = time.perf_counter()
            for _ in range(3):
                assert b"spam" in subprocess.run(command, capture_output=True, check=True).stdout
            return (time.perf_counter() - began) / 3 * 1e3

        def first_ms() -> float:
            began = time.perf_counter()
            with ProgramPool() as fresh:
                assert fresh.run(PROGRAM, MAIL).ok
                return (time.perf_counter() - began) * 1e3

        def call_ms() -> float:
            began = time.perf_counter()
            for _ in range(calls):
                assert pool.run(PROGRAM, MAIL).ok
            return (time.perf_counter() - began) / calls * 1e3

        def row_us() -> float:
            inputs = [MAIL] * rows
            began = time.perf_counter()
            outcomes = pool.run_many(PROGRAM, inputs)
            wall = time.perf_counter() - began
            assert all(outcome.ok for outcome in outcomes)
            return wall / rows * 1e6

        def programs_mb() -> float:
            with ProgramPool() as fresh:
                before = children_mb()
                for number in range(many):
                    assert fresh.run(Program(f"{CODE}// {number}", "typescript"), MAIL).ok
                return children_mb() - before

        def one_program_mb() -> float:
            with ProgramPool() as fresh:
                before = children_mb()
                assert fresh.run(PROGRAM, MAIL).ok
                return children_mb() - before

        new_process_ms()  # Deno compiles, and caches the result
        call_ms()
        row_us()
        other = "a new Deno process for each"
        yield [
            Row("TypeScript, first result of a new pool", first_ms, other, new_process_ms, "ms", Goal(500, "figure")),
            Row("TypeScript, one call", call_ms, other, new_process_ms, "ms", Goal(0.5, "figure")),
            Row("TypeScript, a row of a run", row_us, other, lambda: new_process_ms() * 1e3, "µs", Goal(20, "figure")),
            Row(
                f"TypeScript, memory of {many} programs",
                programs_mb,
                "of one",
                one_program_mb,
                "MB",
                Goal(300, "figure"),
            ),
        ]
