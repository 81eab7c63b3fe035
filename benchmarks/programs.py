"""The quality of programs made from examples and the time to make one, compared with a user's alternatives."""

from __future__ import annotations

import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loopai.generators import Candidate, TaskDescription, generate
from loopai.programs import Program, ProgramPool

from . import learning
from .executions import emails, given
from .measuring import Goal, Row, group

# Another suite of the same form: one JSON object per line, `examples` of {"input": [column, …], "output": …}.
SUITE = "LOOPAI_BENCH_TRANSFORMATIONS"
SHOWN = 3
FIRST = """
import time
began = time.perf_counter()
from loopai.generators import TaskDescription, generate
from benchmarks.executions import emails, given
rows = emails("train")[:16]
generate(TaskDescription("spam"), [{"input": given(row), "output": row["label"]} for row in rows])
print(time.perf_counter() - began)
"""
PIPELINE = """
import time
began = time.perf_counter()
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from benchmarks.executions import emails
rows = emails("train")[:16]
pipeline = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegressionCV(cv=3, max_iter=1000))
pipeline.fit([row["subject"] + " " + row["body"] for row in rows], [row["label"] for row in rows])
print(time.perf_counter() - began)
"""
IMPORT = """
import time
began = time.perf_counter()
import sklearn.linear_model, sklearn.feature_extraction.text
print(time.perf_counter() - began)
"""


@functools.lru_cache(maxsize=2)
def transformations(quick: bool) -> dict[str, float]:
    """Shares of tasks unsolved and of wrong answers, and seconds per task."""
    path = Path(os.environ.get(SUITE) or Path(__file__).with_name("transformations.jsonl"))
    lines = path.read_text(encoding="utf-8").splitlines()
    verdicts, seconds = [], []
    with ProgramPool() as pool:
        for line in lines[:10] if quick else lines:
            rows = json.loads(line)["examples"]
            if len(rows) <= SHOWN:
                continue
            inputs = [{f"col{n}": value for n, value in enumerate(row["input"])} for row in rows]
            examples = [{"input": value, "output": row["output"]} for value, row in zip(inputs, rows)]
            began = time.perf_counter()
            made = generate(TaskDescription("transform"), examples[:SHOWN])
            seconds.append(time.perf_counter() - began)
            verdicts.append(_verdict(pool, made, examples[SHOWN:]))
    answered = [verdict for verdict in verdicts if verdict != "refused"]
    return {
        "unsolved": 1 - verdicts.count("solved") / len(verdicts),
        "wrong": answered.count("wrong") / max(1, len(answered)),
        "median": statistics.median(seconds),
    }


def _verdict(pool: ProgramPool, made: Any, examples: list[dict[str, Any]]) -> str:
    if not isinstance(made, Candidate):
        return "refused"
    outcomes = pool.run_many(Program(made.code), [example["input"] for example in examples])
    if any(one.error is None and one.output != example["output"] for one, example in zip(outcomes, examples)):
        return "wrong"
    return "refused" if any(one.error is not None for one in outcomes) else "solved"


def _mails(count: int) -> list[dict[str, Any]]:
    return [{"input": given(row), "output": row["label"]} for row in emails("train")[:count]]


@functools.lru_cache(maxsize=4)
def program_errors(count: int) -> float:
    """Share of the e-mails of `dev` that a program from `count` examples gets wrong."""
    made = generate(TaskDescription("spam"), _mails(count))
    if not isinstance(made, Candidate):
        raise TypeError(made.reason)
    rows = emails("dev")
    with ProgramPool() as pool:
        outcomes = pool.run_many(Program(made.code), [given(row) for row in rows])
    return float(sum(one.output != row["label"] for one, row in zip(outcomes, rows)) / len(rows))


@functools.lru_cache(maxsize=4)
def pipeline_errors(count: int) -> float:
    """The same for words' TF-IDF and a logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    def text(row: dict[str, Any]) -> str:
        return f"{row['subject']}\n{row['body']}"

    pipeline = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=30, max_iter=1000))
    known, rows = emails("train")[:count], emails("dev")
    pipeline.fit([text(row) for row in known], [row["label"] for row in known])
    return 1 - float(pipeline.score([text(row) for row in rows], [row["label"] for row in rows]))


@functools.lru_cache(maxsize=1)
def _split(name: str) -> tuple[learning.Rows, learning.Rows]:
    if name == "rule":
        rows = learning.rule()
        return rows[:200], rows[200:]
    rows = learning.profits()
    return rows[:1500], rows[1500:]


def _of(count: int, code: str) -> str:
    return code.replace("[:16]", f"[:{count}]")


def _timed(code: str) -> float:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout)


@group("programs")
def programs(quick: bool) -> Iterator[list[Row]]:
    count = 100 if quick else 1000
    table = "the examples as a table"
    yield [
        Row("transformations not solved, 3 examples", lambda: transformations(quick)["unsolved"], table, lambda: 1.0,
            "of all", Goal(0.4, "figure")),
        Row("transformations wrong, of those that answer", lambda: transformations(quick)["wrong"], table, lambda: 1.0,
            "of all", Goal(0.08, "figure")),
        Row("a transformation's program, median", lambda: transformations(quick)["median"],
            "the time that is allowed", lambda: 0.5, "s", Goal(0.5, "figure")),
        Row(f"e-mails wrong, {count:,} examples", lambda: program_errors(count), "TF-IDF and logistic regression",
            lambda: pipeline_errors(count), "of all", Goal(1.1)),
        Row("amounts wrong, the worst of 5 kinds, 30 examples", learning.amounts_wrong, "the examples as a table",
            lambda: 1.0, "of all", Goal(0.0, "figure")),
        Row("a rule of two conditions, wrong, 200 examples", lambda: learning.wrong(*_split("rule")),
            "logistic regression", lambda: learning.pipeline_wrong(*_split("rule")), "of all", Goal(0.001, "figure")),
        Row("a retailer's profit, 1 - R²", lambda: learning.unexplained(*_split("profits")), "HistGradientBoosting",
            lambda: learning.boosting_unexplained(*_split("profits")), "", Goal(0.3, "figure")),
        Row("20 languages, wrong, 60 examples each", lambda: learning.wrong(*learning.languages()),
            "character n-grams and logistic regression", lambda: learning.pipeline_wrong(*learning.languages()),
            "of all", Goal(0.1, "figure")),
        Row("a label of 1:100, not found", lambda: learning.wrong(*learning.frauds()),
            "character n-grams and logistic regression", lambda: learning.pipeline_wrong(*learning.frauds()),
            "of all", Goal(0.2, "figure")),
        Row("keys among the examples, wrong", lambda: learning.wrong(*learning.lookups()), "logistic regression",
            lambda: learning.pipeline_wrong(*learning.lookups()), "of all", Goal(0.0, "figure")),
        Row("first program of a process, 16 e-mails", lambda: _timed(FIRST), "importing scikit-learn",
            lambda: _timed(IMPORT), "s", Goal(1.2, "figure")),
        Row(f"first program of a process, {count:,} e-mails", lambda: _timed(_of(count, FIRST)),
            "TF-IDF and a cross-validated logistic regression", lambda: _timed(_of(count, PIPELINE)), "s",
            Goal(2.5, "figure")),
    ]  # fmt: skip
