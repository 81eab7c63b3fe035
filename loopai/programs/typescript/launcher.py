"""Become Deno with limits that only the process itself can set. Run as a script, with `-I -S`; imports nothing of ours.

Arguments: the parent's process id, bytes of memory that the process may write to, its niceness, and Deno's command.
"""

import os
import resource
import signal
import sys


def _die_with_parent(parent: int) -> None:
    """Have the system kill this process as soon as its parent is gone, however that ended."""
    if sys.platform != "linux":
        return
    import ctypes

    set_death_signal = 1  # PR_SET_PDEATHSIG in <linux/prctl.h>
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def _limit(kind: int, value: int) -> None:
    _, most = resource.getrlimit(kind)
    if most != resource.RLIM_INFINITY:
        value = min(value, most)
    resource.setrlimit(kind, (value, value))


if __name__ == "__main__":
    _die_with_parent(int(sys.argv[1]))
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_DATA, int(sys.argv[2]))
    os.nice(int(sys.argv[3]))
    os.execv(sys.argv[4], sys.argv[4:])  # noqa: S606  # Deno itself, without a shell
