"""`loopai_batch --pending [--watch]`: for cron, or as a worker that needs no broker."""

from __future__ import annotations

import json
import queue
from contextlib import suppress
from dataclasses import replace
from typing import Any, Optional, TextIO

from django.db import DatabaseError, close_old_connections

from ...._core.randomness import private_random
from ....batch.engine.stopping import Stop
from ....batch.reporting.one_line import counted
from ....exceptions import ConfigurationError
from ....shell.exit_codes import ALL_OK, FAILED_ROWS, SERVER_UNREACHABLE, USAGE
from ....shell.interrupts import interrupts
from ..batches.database import is_passing
from .carrying import Carried
from .pending import PendingWork

LOOK_SECONDS = 1.0
"""Seconds between two checks for work with `--watch`."""

GRACE_SECONDS = 30.0
"""Seconds that requests in flight may take after the command was stopped."""


class PendingCommand:
    """Processes what is due, once or until it is stopped. Returns the command's exit code."""

    def __init__(
        self, using: str, name: Optional[str], stderr: TextIO, *, as_json: bool, retry_failed: bool, watch: bool
    ) -> None:
        self._stop = Stop(GRACE_SECONDS)
        self._work = PendingWork(using, name, self._stop)
        self._using = using
        self._stderr = stderr
        self._json = as_json
        self._retry_failed = retry_failed
        self._watch = watch

    def run(self) -> int:
        """Run. Raises `ConfigurationError` for an undeclared name, and `DatabaseError`."""
        self._work.declarations()
        if self._retry_failed:
            number = self._work.retry_failed()
            self._say({"message": f"{counted(number, 'failed row')} to be run again."})
        total = Carried()
        with interrupts(self._stop, lambda text: self._say({"message": text})) as came:
            if self._watch:
                self._look_and_wait(total)
            else:
                total.add(self._work.once())
        if not self._watch or total.done or total.failed:
            self._tell(total)
        if came.signal is not None:
            return came.exit_code
        if isinstance(total.error, ConfigurationError):
            return USAGE
        if total.error is not None:
            return SERVER_UNREACHABLE
        return FAILED_ROWS if total.failed else ALL_OK

    def _look_and_wait(self, total: Carried) -> None:
        woken: queue.SimpleQueue[None] = queue.SimpleQueue()  # a signal handler may put into it
        forget = self._stop.on_request(lambda: woken.put(None))
        told = ""
        try:
            while not self._stop.requested:
                close_old_connections()
                try:
                    carried = self._work.once()
                except DatabaseError as error:
                    # The server may be back at the next check; a lasting failure ends the worker.
                    if not is_passing(error, self._using):
                        raise
                    self._say({"message": f"the database: {error}"})
                    carried = Carried()
                total.add(replace(carried, error=None))
                if carried.done or carried.failed:
                    self._tell(carried)
                why = "" if carried.error is None else str(carried.error)
                if why and why != told:
                    self._say({"message": f"Rows are left for later: {why}"})
                told = why
                # So that several workers do not check at the same moment.
                with suppress(queue.Empty):
                    woken.get(timeout=LOOK_SECONDS * (0.5 + private_random.random()))
        finally:
            forget()

    def _tell(self, carried: Carried) -> None:
        figures = {"done": carried.done, "failed": carried.failed, "postponed": carried.postponed}
        error = None if carried.error is None else str(carried.error)
        text = f"{counted(carried.done, 'row')} done, {carried.failed:,} failed, {carried.postponed:,} left for later"
        self._say({"summary": {**figures, "error": error}}, f"{text}: {error}" if error else text)

    def _say(self, said: dict[str, Any], text: Optional[str] = None) -> None:
        line = json.dumps(said, ensure_ascii=False) if self._json else text or str(said["message"])
        print(line, file=self._stderr, flush=True)
