"""The thread that cuts off blocking calls."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from loopai import SyncLoopaiClient
from loopai.transports.watchdog import Alarm, Watchdog, watchdog


def test_one_thread_serves_all_clients(server: Any, task: str) -> None:
    """However many clients there are, one daemon thread watches them, and holds nothing when no call is under way."""
    clients = [SyncLoopaiClient(server.url, timeout=timeout) for timeout in (1, 5, 30)]
    for client in clients * 3:
        client.execute(task, "x")
    assert sum(thread.name == "loopai-watchdog" for thread in threading.enumerate()) == 1
    assert len(watchdog) == 0
    for client in clients:
        client.close()


def test_calls_that_are_over_are_not_held() -> None:
    """100,000 calls with a long timeout hold no memory until it passes: only calls under way are held."""
    dog = Watchdog()
    for _ in range(100_000):
        alarm = Alarm()
        dog.set(alarm, 30.0)
        dog.unset(alarm)
    assert len(dog) == 0


def test_alarms_ring_when_due_and_only_then() -> None:
    """An alarm shuts its socket in its time, whatever the order in which alarms are set; one that is unset never."""
    pairs = [socket.socketpair() for _ in range(4)]
    seconds = (0.6, 0.1, 0.3, 0.2)
    alarms = [Alarm(mine) for mine, _ in pairs]
    began = time.monotonic()
    for alarm, due in zip(alarms, seconds):
        watchdog.set(alarm, due)
    watchdog.unset(alarms[3])
    ended = {}
    for place in (1, 2, 0):
        assert pairs[place][0].recv(1) == b""  # returns as the socket is shut
        ended[seconds[place]] = time.monotonic() - began
    assert all(due <= took < due + 0.25 for due, took in ended.items())
    assert [alarm.rang for alarm in alarms] == [True, True, True, False]
    pairs[3][1].send(b"!")
    assert pairs[3][0].recv(1) == b"!"
    for pair in pairs:
        for each in pair:
            each.close()


def test_an_alarm_that_rang_shuts_a_socket_that_comes_later() -> None:
    """Where the time ran out while connecting, the connection is shut as soon as it is there."""
    mine, theirs = socket.socketpair()
    alarm = Alarm()
    with watchdog.lock:
        alarm.ring()
    alarm.hold(mine)
    assert mine.recv(1) == b""
    mine.close()
    theirs.close()


class Strange:
    """A socket of a library, whose shutdown fails in a way of its own."""

    def shutdown(self, how: int) -> None:
        raise TypeError("not like that")


def test_it_survives_what_it_meets(caplog: pytest.LogCaptureFixture) -> None:
    """An alarm that cannot be rung is logged, and the next ones ring all the same: one thread bounds every call."""
    mine, theirs = socket.socketpair()
    dog = Watchdog()
    for seconds, sock in ((0.0, Strange()), (0.05, mine)):
        dog.set(Alarm(sock), seconds)
    assert mine.recv(1) == b""
    assert "could not be cut off" in caplog.text
    mine.close()
    theirs.close()


UNDER_EVENTLET = """
import sys
sys.modules["trio"] = None  # cannot be imported once eventlet has patched, and httpcore would import it
import eventlet
eventlet.monkey_patch()
import socket, threading
from loopai import SyncLoopaiClient, TimeoutException

def drip(connection):
    try:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 1000000\\r\\n\\r\\n")
        while True:
            connection.sendall(b" ")
            eventlet.sleep(0.02)
    except OSError:
        pass

def accept():
    while True:
        eventlet.spawn(drip, listening.accept()[0])

listening = socket.create_server(("127.0.0.1", 0))
eventlet.spawn(accept)
client = SyncLoopaiClient(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=0.2, max_retries=0)
for _ in range(3):
    try:
        client.execute("7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60", "x")
    except TimeoutException:
        print("cut off", sum(thread.name == "loopai-watchdog" for thread in threading.enumerate()))
"""


@pytest.mark.slow
def test_it_survives_eventlet() -> None:
    """Under eventlet's patches each reply that drips is cut off, not just the first."""
    if importlib.util.find_spec("eventlet") is None:
        pytest.skip("eventlet is not installed")
    # Without eventlet's own look-ups of names, which need a library that it cannot patch.
    environ = {**os.environ, "EVENTLET_NO_GREENDNS": "yes"}
    command = [sys.executable, "-W", "ignore", "-c", UNDER_EVENTLET]
    process = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert process.stdout == "cut off 1\n" * 3, process.stderr
