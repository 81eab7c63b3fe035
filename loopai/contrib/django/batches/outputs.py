"""The output of a run in workers before the run: its kind, its folder, whether it is this run's. Rows: `segments`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

from ....batch.formats.opening import format_of
from ....batch.formats.parquet import pyarrow
from ....batch.formats.sinks import explain
from ....batch.resume.checkpoint import NEW, OVERWRITE, RESUME, RETRY_FAILED, journal_of
from ....batch.resume.journal import sync_folder
from ....exceptions import ConfigurationError
from ..models import BatchRun
from .plans import Plan


def folder_of(output: str) -> Path:
    """Where the segments of an output are: beside it, so that who sees one sees the other."""
    return Path(f"{output}.parts")


def refuse_workers_output(output: str) -> None:
    """Raise `ConfigurationError` for an output that a run in workers is to write, or to repeat failed rows of."""
    folder = folder_of(output)
    if folder.exists():
        raise ConfigurationError(f"{folder} is of a run with --engine celery: go on with --engine celery, or remove it")


def kind_of(output: str, kind: Optional[str]) -> str:
    """`csv`, `jsonl` or `parquet`. Raises `ConfigurationError` for an output that workers cannot write."""
    if output == "-":
        raise ConfigurationError("--engine celery writes a file that all workers see: name it with --output FILE")
    if output.endswith(".gz"):
        raise ConfigurationError(f"{output}: an output that can be resumed is not gzipped: gzip it afterwards")
    if os.path.exists(output) and not os.path.isfile(output):
        raise ConfigurationError(f"{output} is no file: --engine celery writes a file that all workers see")
    found = kind or format_of(output)
    if found is None:
        raise ConfigurationError(f"{output}: its name says none of csv, jsonl, parquet")
    if found == "parquet":
        pyarrow()  # said now, not after the last row
    return found


def agree(plan: Plan, earlier: Optional[BatchRun], mode: str) -> None:
    """Raise `ConfigurationError` where the output is there and `mode` does not say what becomes of it, or is of
    another run, whose difference is named."""
    output = str(plan.output)
    if mode == OVERWRITE:
        return
    journal = journal_of(output)
    if journal.exists():
        raise ConfigurationError(
            f"{journal} is of a run without --engine celery: go on without it, or start again with --overwrite"
        )
    folder = folder_of(output)
    if earlier is None and any(folder.glob("run-*")):
        raise ConfigurationError(
            f"{folder} is of a run that the database does not have, or has by another path of {output}: "
            "go on with that one, or start again with --overwrite"
        )
    if mode == NEW and os.path.exists(output):
        raise ConfigurationError(
            f"{output} exists: go on with --resume, repeat what failed with --retry-failed, "
            "or start again with --overwrite"
        )
    if mode in {RESUME, RETRY_FAILED}:
        if earlier is None and os.path.exists(output):
            raise ConfigurationError(f"the database has no run that wrote {output}: --overwrite starts again")
        if earlier is not None:
            _compare(plan, earlier)
            repeats = mode == RETRY_FAILED and earlier.errors > 0
            if earlier.state == BatchRun.State.FINISHED and not os.path.exists(output) and not repeats:
                raise ConfigurationError(
                    f"{output} of run {earlier.pk}, which is finished, is gone: --overwrite starts again"
                )


def _compare(plan: Plan, earlier: BatchRun) -> None:
    was, now = Plan.of(earlier).facts, plan.facts
    for name in now:
        if was.get(name) != now[name]:
            raise ConfigurationError(
                f"run {earlier.pk}, which writes {plan.output}, is another: its {name} is {was.get(name)}, this run's "
                f"{now[name]}. Take the same, another output, or --overwrite"
            )


def begin(run: BatchRun, plan: Plan) -> None:
    """Make the folder of a run that begins, empty, and with its mark in it. Raises `ConfigurationError`."""
    folder = folder_of(str(plan.output))
    try:
        journal_of(str(plan.output)).unlink(missing_ok=True)
        clear(folder)
        folder.mkdir(exist_ok=True)
        mark_of(folder, run).touch()
        sync_folder(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise ConfigurationError(explain(error, str(folder))) from error


def mark_of(folder: Path, run: BatchRun) -> Path:
    """The file by which a worker sees that a folder is the run's, and not one of its own host's."""
    return folder / f"run-{run.pk}"


def clear(folder: Path) -> None:
    """Remove what runs wrote there. Raises `OSError`."""
    for pattern in ("segment-*", "joined-*", "run-*"):
        for found in folder.glob(pattern):
            found.unlink(missing_ok=True)
