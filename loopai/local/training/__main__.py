"""Training in a process of its own: `python -m loopai.local.training MEGABYTES`, started by `loopai.local.trainer`.

Reads one job as a line of JSON from standard input and writes one line of JSON to standard output. What training needs
is imported before the job is there. The process ends with whoever started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from dataclasses import asdict
from typing import Any

from ...exceptions import ConfigurationError
from . import CannotLearn, train

_LOOK_SECONDS = 0.5
_NICENESS = 5  # a server has to answer meanwhile


def _limit_itself(megabytes: int) -> None:
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limit, macOS does not keep to it
        import resource

        size = megabytes * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end_with(parent: int) -> None:
    # The end of standard input would not do: a process forked from the parent may hold the other end open.
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def _reply(job: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"trained": asdict(train(**job))}
    except (CannotLearn, ConfigurationError) as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": "training needs more memory than it may take: give fewer or shorter examples"}
    except RecursionError:
        return {"refused": "the examples or schemas are nested too deeply"}


def main() -> None:
    """Do one job."""
    megabytes, parent = map(int, sys.argv[1:3])
    _limit_itself(megabytes)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    # Libraries write warnings there; the reply has the pipe to itself.
    out, sys.stdout = sys.stdout, sys.stderr
    with contextlib.suppress(ConfigurationError):  # the job itself reports it
        from . import learning  # noqa: F401  # what takes long to import, before it is needed
    line = sys.stdin.buffer.readline()
    if line:
        out.write(json.dumps(_reply(json.loads(line))) + "\n")
        out.flush()
    # Threads of the linear algebra need not be waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
