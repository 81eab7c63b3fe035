"""Limits that the operating system enforces on the sandbox's workers, as a second barrier behind the interpreter.

On Linux a worker is started by a script that limits its address space, open files, written files and core dumps, and,
if util-linux's `setpriv` is installed, prevents it from gaining privileges. Elsewhere it is started without limits.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path

__all__ = ["Confinement"]

# What the interpreter maps before it runs anything, and what a value takes twice on its way in and out.
_OVERHEAD_MB = 512
_OPEN_FILES = 64
_TRIAL_SECONDS = 10.0


class Confinement:
    """The command that starts workers; its file is removed with this object."""

    def __init__(self, max_memory_mb: int, niceness: int = 0) -> None:
        self.command: str | None = None
        """The path to start, `None` for the sandbox library's own choice."""
        if sys.platform != "linux":
            return
        from pydantic_monty._binary import find_monty_binary

        folder = tempfile.mkdtemp(prefix="loopai-sandbox-")
        weakref.finalize(self, _remove, folder, os.getpid())
        script = Path(folder) / "worker"
        script.write_text(_script(find_monty_binary(), max_memory_mb, niceness))
        script.chmod(0o700)
        # A folder for temporary files may forbid running what is in it; a container may lack a shell.
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = [str(script), "--version"]
            subprocess.run(command, check=True, capture_output=True, timeout=_TRIAL_SECONDS)  # noqa: S603 our own
            self.command = str(script)


def _remove(folder: str, process: int) -> None:
    # A forked child has inherited the object, not the folder.
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _script(binary: str, max_memory_mb: int, niceness: int) -> str:
    setpriv = shutil.which("setpriv")
    unprivileged = f"{shlex.quote(setpriv)} --no-new-privs -- " if setpriv else ""
    nice = shutil.which("nice")
    behind = f"{shlex.quote(nice)} -n {niceness} " if nice and niceness else ""
    kilobytes = (2 * max_memory_mb + _OVERHEAD_MB) * 1024
    return (
        "#!/bin/sh\n"
        f"ulimit -v {kilobytes} && ulimit -n {_OPEN_FILES} && ulimit -f 0 && ulimit -c 0 || exit 1\n"
        "unset PWD OLDPWD\n"
        # Ctrl-C at a terminal reaches the whole process group; our process decides how to react.
        "trap '' INT\n"
        f'exec {behind}{unprivileged}{shlex.quote(binary)} "$@"\n'
    )
