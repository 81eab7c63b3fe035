"""`Trainer`: train in separate processes, with limits on time and memory."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from ..generators.errors import CannotLearn
from ..language_model import LanguageModel

logger = logging.getLogger("loopai.local")

LARGEST_EXAMPLES = 10_000_000
"""Largest examples to train on, in bytes of JSON."""

GENERATOR_SECONDS = 120.0
"""Additional seconds if a service writes the program: three attempts, and testing the program."""

JUDGING_SECONDS = 60.0
"""Seconds for testing a language model's programs, after its own time limit."""

SPARE_SECONDS = 30.0
"""Seconds that a process started in advance waits for a job."""

Told = Callable[[str], None]
"""Called from another thread with the stage of a training."""

_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TEMP", "SYSTEMROOT")
# How to reach the language model or generator, if there is one.
_PASSED_ON_TO_ASK = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
_PASSED_ON_LIKE = ("LD_", "DYLD_", "COVERAGE_")
# The matrices are small, and each thread needs address space.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Trainer:
    """Trains tasks, each in a new process.

    `seconds` and `memory_mb` limit one training; `model` or the service at `generator` also writes programs, with a
    separate time limit. Thread-safe.
    """

    def __init__(
        self, seconds: float, memory_mb: int, model: LanguageModel | None = None, generator: str | None = None
    ) -> None:
        self._seconds = seconds
        self._asked = b""
        self._told = threading.Event()
        self._host = ""
        if model is not None:
            self._seconds += model.seconds + JUDGING_SECONDS
            self._host = model.host
            self._asked = _members(language_model=asdict(model))
        elif generator is not None:
            self._seconds += GENERATOR_SECONDS
            self._host = urlsplit(generator).hostname or ""
            self._asked = _members(generator=generator)
        self._memory_mb = memory_mb
        self._lock = threading.Lock()
        self._spare: subprocess.Popen[bytes] | None = None
        self._retirement: threading.Timer | None = None
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def prepare(self) -> None:
        """Start a process in advance, unless one is waiting."""
        with self._lock:
            if self._closed or self._spare is not None:
                return
            self._spare = self._start()
            self._retirement = threading.Timer(SPARE_SECONDS, self._retire, (self._spare,))
            self._retirement.daemon = True
            self._retirement.start()

    @property
    def closed(self) -> bool:
        """Whether it was closed: failures after that say nothing about a task."""
        return self._closed

    def train(self, job: bytes, tell: Told | None = None) -> dict[str, Any]:
        """Return the program made from `job` (task and examples as JSON), as the members of an artifact. Blocks.

        `tell` is called with each stage. Raises `CannotLearn`, also if a limit was exceeded.
        """
        if self._asked and not self._told.is_set():
            self._told.set()
            logger.warning("programs are made with the help of %s: tasks and their examples are sent there", self._host)
        process = self._take()
        try:
            # The key is sent through the pipe: neither the command line nor the environment is private.
            reply = self._reply(process, job[:-1] + self._asked + b"}\n", tell)
        finally:
            self._end(process)
        if "refused" in reply:
            raise CannotLearn(reply["refused"], reply.get("questions", ()))
        made: dict[str, Any] = reply["trained"]
        return made

    def close(self) -> None:
        """End all training at once."""
        with self._lock:
            self._closed = True
            running, spare, self._spare = list(self._running), self._spare, None
            if self._retirement is not None:
                self._retirement.cancel()
        # The caller that waits for a process reaps it.
        for process in running:
            process.kill()
        if spare is not None:
            spare.kill()
            _reap(spare)

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in _PASSED_ON
            or name.startswith(_PASSED_ON_LIKE)
            or (self._asked and name.upper() in _PASSED_ON_TO_ASK)
        }
        environment.update(_ONE_THREAD, PYTHONPATH=os.pathsep.join(filter(None, sys.path)), PYTHONSAFEPATH="1")
        command = [sys.executable, "-m", "loopai.local.training", str(self._memory_mb), str(os.getpid())]
        return subprocess.Popen(  # noqa: S603  # our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )

    def _take(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise CannotLearn("the server is shutting down")
            process, self._spare = self._spare, None
            if self._retirement is not None:
                self._retirement.cancel()
                self._retirement = None
            if process is None or process.poll() is not None:
                process = self._start()
            self._running.add(process)
            return process

    def _reply(self, process: subprocess.Popen[bytes], line: bytes, tell: Told | None) -> dict[str, Any]:
        late = threading.Event()

        def cut() -> None:
            late.set()
            process.kill()

        limit = threading.Timer(self._seconds, cut)
        limit.daemon = True
        limit.start()
        try:
            output = _last_line(process, line, tell)
        finally:
            limit.cancel()
        if late.is_set():
            raise CannotLearn(
                f"training took longer than {self._seconds:g} s: give fewer or shorter examples, or push a program of "
                "your own"
            )
        try:
            reply: dict[str, Any] = json.loads(output)
        except ValueError:
            if self._closed:
                raise CannotLearn("the server is shutting down") from None
            process.wait()
            raise CannotLearn(
                f"the training process ended without a reply (exit code {process.returncode}); it may take "
                f"{self._memory_mb} MB: give fewer or shorter examples"
            ) from None
        return reply

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._running.discard(process)
        process.kill()
        _reap(process)

    def _retire(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            if self._spare is not process:
                return
            self._spare = None
        process.kill()
        _reap(process)


def _last_line(process: subprocess.Popen[bytes], line: bytes, tell: Told | None) -> bytes:
    """Send the job, report each stage, and return the reply; empty if the process ended without one."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the training process has no pipes")
    try:
        process.stdin.write(line)
        process.stdin.close()
    except OSError:  # it has ended; its output may say why
        logger.debug("the training process did not accept its job", exc_info=True)
    for said in process.stdout:
        stage = json.loads(said).get("stage") if said.startswith(b'{"stage"') else None
        if stage is None:
            return said
        if tell is not None:
            tell(stage)
    return b""


def _members(**members: Any) -> bytes:
    """Return members to append to a JSON object."""
    return b"," + json.dumps(members).encode()[1:-1]


def too_large(size: int) -> str:
    """Return the error for examples of `size` bytes, with the remedy."""
    return f"the examples have {size:,} bytes, and {LARGEST_EXAMPLES:,} are the most to train on: give fewer or shorter"


def _reap(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None and not pipe.closed:
            try:
                pipe.close()
            except OSError:  # the process that would read the rest has ended
                continue
    process.wait()
