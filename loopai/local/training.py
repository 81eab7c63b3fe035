"""Training in a separate process: `python -m loopai.local.training MEGABYTES`, started by `loopai.local.trainer`.

Reads one job as a line of JSON from standard input, and writes a line of JSON for each stage and one for the result to
standard output. Libraries are imported before the job arrives. The process ends with its parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from ..exceptions import ConfigurationError
from ..generators.seam import Generator
from ..language_model import LanguageModel

_LOOK_SECONDS = 0.5
_NICENESS = 5  # the server must respond meanwhile


def _limit_itself(megabytes: int) -> None:
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limit, macOS does not enforce it
        import resource

        size = megabytes * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end_with(parent: int) -> None:
    # Not by the end of standard input: a process forked from the parent may keep its other end open.
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def _asked(job: dict[str, Any]) -> Generator | None:
    """Remove the additional generator from the job, and return it."""
    model, url = job.pop("language_model", None), job.pop("generator", None)
    if model is not None:
        from ..generators.llm import ModelGenerator

        return ModelGenerator(LanguageModel(**model))
    if url is not None:
        from ..generators.service import ServiceGenerator

        return ServiceGenerator(url)
    return None


def _made(job: dict[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    # Imported here, within the limits.
    from ..generators import Failure, Previous, Refusal, TaskDescription
    from ..generators.choosing import generate_with

    asked = _asked(job)
    examples = job.pop("examples")
    previous = job.pop("previous", None)
    failures = [Failure(**one) for one in job.pop("failures", ())]
    made = generate_with(
        asked,
        TaskDescription(**job),
        examples,
        None if previous is None else Previous(**previous),
        failures,
        tell=tell,
    )
    if isinstance(made, Refusal):
        return {"refused": made.reason, "questions": [asdict(one) for one in made.questions]}
    artifact = {
        "code": made.code,
        "language": made.language,
        "synthesis_strategy": made.synthesis_strategy,
        "confidence_score": made.confidence_score,
        "cyclomatic_complexity": made.cyclomatic_complexity,
        "lines_of_code": made.lines_of_code,
        "llm_provider": made.provider,
        "llm_model": made.model,
        "generation_cost": made.cost,
        "generation_time_sec": made.generation_time_sec,
    }
    if made.provider != "local":
        artifact["verified"] = made.verified
    if made.usage is not None:
        artifact["usage"] = json.dumps(asdict(made.usage))
    if made.estimate:
        artifact["estimate"] = True
    if made.notes:
        artifact["notes"] = json.dumps(made.notes)
    if made.questions:
        artifact["questions"] = json.dumps([asdict(one) for one in made.questions])
    if made.draft:
        artifact["status"] = "draft"
    return {"trained": artifact}


def _reply(job: dict[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    try:
        return _made(job, tell)
    except ConfigurationError as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": "training needs more memory than allowed: give fewer or shorter examples"}
    except RecursionError:
        return {"refused": "the examples or schemas are nested too deeply"}


def main() -> None:
    """Run one job."""
    megabytes, parent = map(int, sys.argv[1:3])
    _limit_itself(megabytes)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    # Libraries write warnings to standard output; only the reply may use the pipe.
    out, sys.stdout = sys.stdout, sys.stderr
    with contextlib.suppress(ImportError, ConfigurationError):  # the job itself reports it
        from .. import generators  # noqa: F401  # slow imports, before they are needed
        from ..generators import learner  # noqa: F401

    def write(value: dict[str, Any]) -> None:
        out.write(json.dumps(value) + "\n")
        out.flush()

    line = sys.stdin.buffer.readline()
    if line:
        write(_reply(json.loads(line), lambda stage: write({"stage": stage})))
    # Do not wait for the linear algebra's threads.
    os._exit(0)


if __name__ == "__main__":
    main()
