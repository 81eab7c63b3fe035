"""The thread that cuts off blocking calls."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

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
