"""Interrupt blocking calls after their time limit: httpx limits each read only, so a slow reply might never end.

It cannot interrupt the DNS look-up, which the system limits, nor a connection attempt, which httpx limits for each of
a host's addresses.
"""

from __future__ import annotations

import _socket
import contextlib
import logging
import math
import os
import socket
import threading
import time
from typing import Any, Callable, Optional, Union

logger = logging.getLogger("loopai")

_SystemSocket = _socket.socket
"""The base class of `socket.socket`, even if a library has replaced that class."""


class Watchdog:
    """One daemon thread for each process, started by the first alarm, for all clients.

    There are as many alarms as calls in flight. The thread wakes when the earliest alarm that it has seen is due, so
    about once per timeout, not once per call.
    """

    def __init__(self) -> None:
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        # A forked child has no watchdog thread, and none of the calls that the alarms were for.
        self.lock = threading.Lock()
        self._wake = threading.Condition(self.lock)
        self._due: dict[Union[Alarm, Chore], float] = {}
        self._next = math.inf
        self._thread: Optional[threading.Thread] = None

    def set(self, alarm: Union[Alarm, Chore], seconds: float) -> None:
        """Ring `alarm`, or do a chore, after `seconds`, unless it is unset by then."""
        moment = time.monotonic() + seconds
        with self.lock:
            self._due[alarm] = moment
            if self._thread is None or not self._thread.is_alive():
                self._start()
            elif moment < self._next:
                self._next = moment
                self._wake.notify()

    def _start(self) -> None:
        thread = threading.Thread(target=self._watch, name="loopai-watchdog", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is shutting down: httpx still limits each read of the call
            self._due.clear()
        else:
            self._thread = thread

    def unset(self, alarm: Union[Alarm, Chore]) -> None:
        """Forget `alarm`: once this returns it will not ring."""
        with self.lock:
            self._due.pop(alarm, None)

    def __len__(self) -> int:
        return sum(isinstance(alarm, Alarm) for alarm in list(self._due))

    def _watch(self) -> None:
        wake, due = self._wake, self._due
        while True:
            chores: list[Chore] = []
            with wake:
                now = time.monotonic()
                for alarm in [alarm for alarm, moment in due.items() if moment <= now]:
                    due.pop(alarm, None)
                    if isinstance(alarm, Chore):
                        chores.append(alarm)
                    else:
                        _safely(alarm.ring)
                self._next = min(due.values(), default=math.inf)
                if not chores:
                    wake.wait(None if self._next == math.inf else self._next - now)
            for chore in chores:
                _safely(chore.run)
            del chores


def _safely(ring: Callable[[], None]) -> None:
    # One thread limits every call of the process: no error may end it.
    try:
        ring()
    except Exception:
        logger.exception("a call whose time is up could not be cut off, or a connection not closed")


class Chore:
    """Work to do at a certain time, which may take its own locks."""

    __slots__ = ("run",)

    def __init__(self, run: Callable[[], None]) -> None:
        self.run = run


watchdog = Watchdog()


class Alarm:
    """Shuts down the socket of one call when its time is up; `rang` says whether it did."""

    __slots__ = ("_socket", "rang")

    def __init__(self, sock: Any = None) -> None:
        self.rang = False
        self._socket = sock

    def hold(self, sock: Any) -> None:
        """Shut down this socket, at once if the time is already up."""
        with watchdog.lock:
            self._socket = sock
            if self.rang:
                self._shut()

    def ring(self) -> None:
        """Wake the thread that blocks on the socket. The watchdog calls it, holding its lock."""
        self.rang = True
        self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # closed meanwhile: the call is over
                if isinstance(self._socket, _SystemSocket):
                    # Not the socket's own method: that of a TLS socket drops its encryption first, and what another
                    # thread writes in that moment would leave in clear.
                    _SystemSocket.shutdown(self._socket, socket.SHUT_RDWR)
                else:  # a library with its own sockets, such as eventlet
                    self._socket.shutdown(socket.SHUT_RDWR)
