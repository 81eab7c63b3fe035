"""One Deno process: start it, send a request, read replies within a time limit, end it. Programs are unknown here.

A process serves one thread at a time. `host.js` describes the framing of its messages.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from loopai.exceptions import ConfigurationError

__all__ = ["DenoProcess", "Late", "ProcessGone", "deno_binary", "frame"]

_HERE = Path(__file__).parent
# Deno itself writes to about 60 MB besides the heap; threads' stacks count too.
_BESIDE_THE_HEAP_MB = 1024
# Contexts of the programs that stay loaded take about 0.5 MB each.
_HEAP_BESIDE_THE_PROGRAM_MB = 48
_READ = 1 << 18
_LENGTH = struct.Struct("<I")
_HEAD = struct.Struct("<IBd")
_MEGABYTE = 1024 * 1024
# Of what Deno says as it dies, kept for telling why.
_LONGEST_LAST_WORDS = 20_000


class ProcessGone(Exception):
    """The process has ended; `out_of_memory` says whether it ran out of memory."""

    def __init__(self, out_of_memory: bool = False) -> None:
        super().__init__("the Deno process has ended")
        self.out_of_memory = out_of_memory


class Late(Exception):
    """No reply within the time limit."""


def deno_binary() -> str:
    """Return the path of the `deno` wheel's program. Raises `ConfigurationError` if it is not installed."""
    try:
        import deno
    except ImportError as error:
        raise ConfigurationError("running TypeScript programs requires Deno: pip install deno") from error
    try:
        return os.fsdecode(deno.find_deno_bin())
    except FileNotFoundError as error:
        raise ConfigurationError(
            "the package deno is installed, its program is missing: pip install --force-reinstall deno"
        ) from error


def frame(content: bytes) -> bytes:
    """Return `content` as a frame."""
    return _LENGTH.pack(len(content)) + content


def _command(max_memory_mb: int, niceness: int) -> list[str]:
    heap = max_memory_mb + _HEAP_BESIDE_THE_PROGRAM_MB
    command = [
        deno_binary(), "run", "--quiet", "--no-prompt", "--no-remote", "--no-npm", "--no-config", "--no-lock",
        "--no-code-cache", "--node-modules-dir=none", f"--v8-flags=--max-old-space-size={heap},--max-semi-space-size=8",
        str(_HERE / "host.js"),
    ]  # fmt: skip
    python = _python()
    if python is None or os.name != "posix":
        return command
    memory = (heap + _BESIDE_THE_HEAP_MB) * _MEGABYTE
    return [python, "-I", "-S", str(_HERE / "launcher.py"), str(os.getpid()), str(memory), str(niceness), *command]


def _python() -> str | None:
    """A Python to start the launcher with; what embeds Python may call itself `sys.executable`."""
    candidates = [sys.executable, os.path.join(sys.prefix, "bin", "python3")]
    for candidate in candidates:
        if candidate and Path(candidate).name.startswith(("python", "pypy")) and os.access(candidate, os.X_OK):
            return candidate
    return None


# The system kills a process when the thread that started it ends, so one thread lives as long as this process and
# starts them all. By process id: a forked child needs a thread of its own.
_Start = tuple[list[str], "Future[subprocess.Popen[bytes]]"]
_STARTERS: dict[int, queue.SimpleQueue[_Start]] = {}
_starters_lock = threading.Lock()


def _start_in_thread(command: list[str]) -> subprocess.Popen[bytes]:
    with _starters_lock:
        starts = _STARTERS.get(os.getpid())
        if starts is None:
            starts = _STARTERS[os.getpid()] = queue.SimpleQueue()
            threading.Thread(target=_starting, args=(starts,), name="loopai-deno", daemon=True).start()
    started: Future[subprocess.Popen[bytes]] = Future()
    starts.put((command, started))
    return started.result()


def _starting(starts: queue.SimpleQueue[_Start]) -> None:
    while True:
        command, started = starts.get()
        try:
            started.set_result(_start(command))
        except Exception as error:  # noqa: BLE001  # handed to the thread that waits
            started.set_exception(error)


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  # our own command
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        # Ctrl-C at the terminal is for the parent, which ends this process when it is done.
        start_new_session=True,
        cwd="/" if os.name == "posix" else None,
        env={
            # No folder: Deno caches nothing that it runs, and reads nothing that others left.
            "DENO_DIR": os.path.join(os.devnull, "none"),
            "DENO_NO_UPDATE_CHECK": "1",
            "DENO_NO_PROMPT": "1",
            "NO_COLOR": "1",
            "TZ": "UTC",
            "LANG": "C.UTF-8",
        },
    )


class DenoProcess:
    """A running process. Raises OSError if the system cannot start one."""

    def __init__(self, max_memory_mb: int, niceness: int = 0) -> None:
        self._process = _start_in_thread(_command(max_memory_mb, niceness))
        self.pid = self._process.pid
        self._buffer = bytearray()
        self._replies: deque[tuple[int, float, bytes]] = deque()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            os.set_blocking(_descriptor(pipe), False)
        _ALIVE.add(self)

    def send(self, content: bytes, deadline: float) -> None:
        """Write all of `content`. Raises `ProcessGone`, and `Late` after `deadline` (`time.monotonic`)."""
        pipe = _descriptor(self._process.stdin)
        left = memoryview(content)
        while left:
            try:
                left = left[os.write(pipe, left) :]
            except BlockingIOError:
                self._wait(pipe, select.POLLOUT, deadline)
            except OSError as error:
                raise self._gone() from error

    def replies(self, timeout: float) -> Iterator[tuple[int, float, bytes]]:
        """Yield each reply: kind, milliseconds and text. Raises `ProcessGone`, and `Late` when one takes `timeout`.

        Replies that are read ahead are kept for the next call.
        """
        pipe = _descriptor(self._process.stdout)
        while True:
            self._replies.extend(self._arrived())
            while self._replies:
                yield self._replies.popleft()
            deadline = time.monotonic() + timeout
            while True:
                try:
                    read = os.read(pipe, _READ)
                except BlockingIOError:
                    self._wait(pipe, select.POLLIN, deadline)
                    continue
                if not read:
                    raise self._gone()
                self._buffer += read
                break

    def _arrived(self) -> list[tuple[int, float, bytes]]:
        arrived = []
        at, size = 0, len(self._buffer)
        with memoryview(self._buffer) as buffer:
            while size - at >= _HEAD.size:
                length, kind, ms = _HEAD.unpack_from(buffer, at)
                following = at + _LENGTH.size + length
                if following > size:
                    break
                arrived.append((kind, ms, bytes(buffer[at + _HEAD.size : following])))
                at = following
        del self._buffer[:at]
        return arrived

    def _wait(self, pipe: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(pipe, event)
        left = deadline - time.monotonic()
        if not poll.poll(max(0.0, left) * 1000):
            raise Late

    def _gone(self) -> ProcessGone:
        """Reap the process, and read its last messages."""
        said = b""
        pipe = _descriptor(self._process.stderr)
        with contextlib.suppress(OSError):
            while len(said) < _LONGEST_LAST_WORDS:
                self._wait_quietly(pipe)
                read = os.read(pipe, _READ)
                if not read:
                    break
                said += read
        self.end()
        return ProcessGone(b"out of memory" in said or b"allocation failed" in said.lower())

    def _wait_quietly(self, pipe: int) -> None:
        # The pipe closes as the process ends; a second is for a machine that is busy.
        with contextlib.suppress(Late):
            self._wait(pipe, select.POLLIN, time.monotonic() + 1.0)

    def end(self) -> None:
        """Kill the process, which has nothing to save, and reap it. Ending it again does nothing."""
        _ALIVE.discard(self)
        self._process.kill()
        self._process.wait()
        self._close_pipes()

    def kill(self) -> None:
        """Kill the process; the thread that reads from it notices, and reaps it."""
        self._process.kill()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def disown(self) -> None:
        """Release a process that belongs to the parent: after a fork it is neither written to nor waited for."""
        self._process.returncode = 0
        self._close_pipes()


def _descriptor(pipe: object) -> int:
    number: int = pipe.fileno()  # type: ignore[attr-defined]  # one of the three pipes, which are always made
    return number


_ALIVE: weakref.WeakSet[DenoProcess] = weakref.WeakSet()


def _after_fork() -> None:
    # A child that kept the pipes would keep a process alive that its parent has released.
    global _starters_lock  # noqa: PLW0603  # it may have been held at the fork
    _starters_lock = threading.Lock()
    for process in list(_ALIVE):
        process.disown()
    _ALIVE.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
