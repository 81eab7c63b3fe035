"""`TypeScriptEngine`: run TypeScript and JavaScript programs in warm Deno processes, singly or in groups.

Each process serves one call or one group at a time, so that a program that crashes it (out of memory) or causes it to
be killed (timeout) does not affect others. Programs stay loaded in a process; the least recently used are removed.
"""

from __future__ import annotations

import json
import os
import threading
import time
import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..program import Bounds, Program, ProgramOutcome, Stop
from ..values import NotJSON, from_output
from .process import DenoProcess, Late, ProcessGone, deno_binary, frame

__all__ = ["TypeScriptEngine"]

# As in host.js.
_VALUE, _ERROR, _TIMEOUT, _READY, _LOADED, _AGAIN = range(6)
# Most of them wait rather than compute; a process takes about 60 MB.
_FEWEST_PROCESSES = 2
# Programs that stay loaded in a process, half a megabyte each.
_MOST_LOADED = 32
# A syntax error leaves a module behind in its process, and so does each `export`: start a new one now and then.
_MOST_LOADS = 500
# Inputs and bytes of one request: replies are small, and an answer to the first comes after all were read.
_LARGEST_GROUP = 200
_LARGEST_GROUP_BYTES = 4_000_000
# Another process takes 0.1 s to start.
_WORTH_A_PROCESS_MS = 200.0
# Programs whose speed is remembered.
_MOST_PACES = 256
# The host stops programs that wait; this is for programs that compute, and must be killed.
_GRACE_SECONDS = 0.05
# Starting takes 0.1 s on an idle machine, and does not count towards a call's timeout.
_START_SECONDS = 30.0
_CHECK_MS = 5000
# Seconds until a thread that waits for a process notices that its run is no longer needed.
_ASK_SECONDS = 0.2
_NO_LIMIT = float("inf")


class _Slot:
    """A process and its loaded programs, used by one thread at a time."""

    def __init__(self, max_memory_mb: int, niceness: int) -> None:
        self._max_memory_mb = max_memory_mb
        self._niceness = niceness
        self._process: DenoProcess | None = None
        self._loaded: OrderedDict[str, int] = OrderedDict()
        self._loads = 0
        self._served = False

    @property
    def started(self) -> bool:
        """Whether a process is ready for a request."""
        return self._process is not None

    def has(self, program: Program) -> bool:
        """Whether the program is loaded."""
        return program.code in self._loaded

    def kill(self) -> None:
        """Kill the process while another thread waits for its reply."""
        process = self._process
        if process is not None:
            process.kill()

    def end(self) -> None:
        """End the process; the next exchange starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.end()
        self._loaded.clear()
        self._loads = 0
        self._served = False

    def exchange(
        self, program: Program, inputs: Sequence[bytes], limit: int, *, check: bool = False
    ) -> tuple[list[ProgramOutcome], bool]:
        """Run `main` on one input after the other, or `check` the program.

        Returns the outcomes of the inputs that finished, and whether the process ended before the last one: then the
        next input was in progress, and is the cause if it was the first that the process ever ran.
        """
        wanted = len(inputs) + check
        outcomes: list[ProgramOutcome] = []
        process = self._ready()
        fresh, self._served = not self._served, True
        try:
            loaded = self.has(program)
            process.send(self._request(program, inputs, limit, check), time.monotonic() + _START_SECONDS)
            if not loaded:
                # The program does not run until then, so this does not count as its time.
                next(process.replies(_START_SECONDS))
            for kind, ms, text in process.replies(limit / 1000 + _GRACE_SECONDS):
                if kind == _READY:
                    return outcomes, False
                if kind == _AGAIN:
                    continue
                outcomes.append(_outcome(kind, ms, text, limit))
        except Late:
            self.end()
            if len(outcomes) < wanted:
                outcomes.append(_timed_out(limit))
        except ProcessGone as gone:
            self.end()
            if len(outcomes) < wanted and fresh and not outcomes:
                outcomes.append(self._blamed(gone))
            return outcomes, len(outcomes) < wanted
        except BaseException:
            # Replies are outstanding, so the next exchange would read them.
            self.end()
            raise
        return outcomes, False

    def _ready(self) -> DenoProcess:
        if self._loads >= _MOST_LOADS:
            self.end()
        if self._process is None:
            process = DenoProcess(self._max_memory_mb, self._niceness)
            try:
                next(process.replies(_START_SECONDS))
            except (ProcessGone, Late) as error:
                process.end()
                raise OSError(f"Deno does not start: {error}") from error
            self._process = process
        return self._process

    def _request(self, program: Program, inputs: Sequence[bytes], limit: int, check: bool) -> bytes:
        request: dict[str, Any] = {"count": len(inputs), "limit": limit, "forget": [], "check": check}
        number = self._loaded.get(program.code)
        if number is None:
            self._loads += 1
            number = self._loaded[program.code] = self._loads
            request["code"] = program.code
            if len(self._loaded) > _MOST_LOADED:
                request["forget"] = [self._loaded.popitem(last=False)[1]]
        self._loaded.move_to_end(program.code)
        request["program"] = number
        return frame(json.dumps(request).encode()) + b"".join(frame(item) for item in inputs)

    def _blamed(self, gone: ProcessGone) -> ProgramOutcome:
        if gone.out_of_memory:
            return ProgramOutcome(None, f"Memory limit of {self._max_memory_mb} MB exceeded", 0.0)
        return ProgramOutcome(None, "Execution error: the sandbox's process ended unexpectedly", 0.0)


class _Slots:
    """The slots of one process, at most `most`; waiting threads get them in no particular order."""

    def __init__(self, most: int, max_memory_mb: int, per_program: int, niceness: int) -> None:
        self._changed = threading.Condition()
        self._per_program = per_program
        self._at_work: Counter[str] = Counter()
        self._busy: set[_Slot] = set()
        self._free = [_Slot(max_memory_mb, niceness) for _ in range(most)]
        self._closed = False

    def started(self) -> int:
        """How many processes are idle."""
        with self._changed:
            return sum(slot.started for slot in self._free)

    def take(self, program: Program, stop: Stop | None = None) -> _Slot | str:
        """Return a slot, preferably one with the program loaded or with a process; or the reason of `stop`.

        Waits while all slots are busy, or as many as the program may use. Raises RuntimeError once closed.
        """
        with self._changed:
            while True:
                self.raise_if_closed()
                if self._free and self._at_work[program.code] < self._per_program:
                    break
                reason = stop() if stop is not None else None
                if reason is not None:
                    return reason
                self._changed.wait(None if stop is None else _ASK_SECONDS)
            slot = max(self._free, key=lambda slot: (slot.has(program), slot.started))
            self._free.remove(slot)
            self._busy.add(slot)
            self._at_work[program.code] += 1
            return slot

    def give_back(self, slot: _Slot, program: Program) -> None:
        """Return the slot for the next call, or end it if the engine is closed."""
        with self._changed:
            self._busy.discard(slot)
            self._at_work[program.code] -= 1
            if not self._at_work[program.code]:
                del self._at_work[program.code]
            if not self._closed:
                self._free.append(slot)
                self._changed.notify_all()
                return
        slot.end()

    def kill(self) -> None:
        """Close, and kill busy processes; the threads that use them reap them."""
        self.close()
        with self._changed:
            for slot in self._busy:
                slot.kill()

    def raise_if_closed(self) -> None:
        """Raise RuntimeError once closed."""
        if self._closed:
            raise RuntimeError("this ProgramPool is closed; make a new one")

    def close(self) -> None:
        with self._changed:
            self._closed = True
            free, self._free = self._free, []
            self._changed.notify_all()
        for slot in free:
            slot.end()


class TypeScriptEngine:
    """Runs programs in at most `processes` Deno processes, started at the first run; a forked child has its own.

    Parameters and behaviour are those of `ProgramPool`. Raises `ConfigurationError` if Deno is not installed.
    """

    def __init__(self, bounds: Bounds) -> None:
        deno_binary()
        self._most = bounds.processes or max(_FEWEST_PROCESSES, os.cpu_count() or 1)
        self._max_memory_mb = bounds.max_memory_mb
        self._niceness = bounds.niceness
        self._per_program = bounds.per_program or self._most
        # By process id, as a forked child must neither use its parent's processes nor a lock held at the fork.
        self._slots: dict[int, _Slots] = {}
        self._paces: OrderedDict[str, float] = OrderedDict()
        self._finalizer = weakref.finalize(self, _close_own, self._slots)

    def close(self) -> None:
        """End the processes after runs in progress have finished."""
        _close_own(self._slots)

    def kill(self) -> None:
        """Close at once: runs in progress raise RuntimeError."""
        own = self._slots.pop(os.getpid(), None)
        if own is not None:
            own.kill()

    def run(self, program: Program, value: Any, limit: int, stop: Stop | None) -> ProgramOutcome:
        """Run `main(value)`; `limit` is the time limit in milliseconds."""
        began = time.perf_counter()
        work = _Work([value], stop)
        if work.waiting:
            self._drain(program, work, limit, 1)
        [outcome] = work.done()
        if work.refused:
            return outcome
        return ProgramOutcome(outcome.output, outcome.error, max(outcome.latency_ms, _ms_since(began)))

    def run_many(
        self, program: Program, values: Sequence[Any], limit: int, max_concurrency: int, stop: Stop | None
    ) -> list[ProgramOutcome]:
        """Run `main` on each value; outcomes are in order."""
        work = _Work(values, stop)
        slots = self._own()
        helpers = min(max_concurrency, self._per_program, len(work.waiting)) - 1
        if helpers > 0 and slots.started() < helpers + 1:
            # The first rows show whether another process is worth starting.
            self._drain(program, work, limit, 1, most=_LARGEST_GROUP)
            if self._paces.get(program.code, 0.0) * len(work.waiting) < _WORTH_A_PROCESS_MS:
                helpers = 0
        if helpers < 1 or not work.waiting:
            self._drain(program, work, limit, 1)
        else:
            with ThreadPoolExecutor(helpers, thread_name_prefix="loopai-typescript") as threads:
                parts = [threads.submit(self._drain, program, work, limit, helpers + 1) for _ in range(helpers)]
                self._drain(program, work, limit, helpers + 1)
            for part in parts:
                part.result()
        return work.done()

    def expected_ms(self, program: Program) -> float | None:
        """See `Engine`: the runs of TypeScript programs are not measured."""
        return None

    def check(self, program: Program) -> str | None:
        """Return None if the program can be read and defines a function `main`, otherwise what is wrong."""
        slots = self._own()
        for _ in range(2):
            slot = slots.take(program)
            assert isinstance(slot, _Slot)  # noqa: S101  # no caller asks for less
            try:
                outcomes, ended = slot.exchange(program, [], _CHECK_MS, check=True)
            except OSError as error:
                return f"Execution error: {error}"
            finally:
                slots.give_back(slot, program)
            if not ended and outcomes:
                return outcomes[0].error
        return "Execution error: the sandbox's process ended unexpectedly"

    def _own(self) -> _Slots:
        slots = self._slots.get(os.getpid())
        if slots is None:
            slots = self._slots.setdefault(
                os.getpid(), _Slots(self._most, self._max_memory_mb, self._per_program, self._niceness)
            )
        return slots

    def _drain(self, program: Program, work: _Work, limit: int, threads: int, most: int | None = None) -> None:
        """Run the waiting inputs, or the next `most` of them."""
        slots = self._own()
        alone = False  # the next input ended a process, perhaps by what had run before it
        while True:
            size = 1 if alone else work.share(threads)
            reason = work.stop() if work.stop is not None else None
            if reason is not None:
                work.end(reason)
                return
            positions = work.take(size)
            if not positions:
                return
            slot = slots.take(program, work.stop)
            if isinstance(slot, str):
                work.put_back(positions)
                work.end(slot)
                return
            try:
                outcomes, ended = slot.exchange(program, [work.inputs[position] for position in positions], limit)
            except OSError as error:
                outcomes, ended = (
                    [ProgramOutcome(None, f"Execution error: the sandbox cannot start: {error}", 0.0)],
                    False,
                )
            finally:
                slots.give_back(slot, program)
            if len(outcomes) < len(positions):
                slots.raise_if_closed()
            for position, outcome in zip(positions, outcomes):
                work.outcomes[position] = outcome
            if outcomes:
                self._learn(program, sum(outcome.latency_ms for outcome in outcomes) / len(outcomes))
            work.put_back(positions[len(outcomes) :])
            alone = ended
            if most is not None:
                most -= len(outcomes)
                if most <= 0:
                    return

    def _learn(self, program: Program, ms: float) -> None:
        known = self._paces.get(program.code)
        self._paces[program.code] = ms if known is None else 0.8 * known + 0.2 * ms
        if len(self._paces) > _MOST_PACES:
            self._paces.popitem(last=False)


class _Work:
    """The inputs of one call, encoded: which are waiting, and the outcomes of the others."""

    def __init__(self, values: Sequence[Any], stop: Stop | None) -> None:
        self.stop = stop
        self.inputs: list[bytes] = []
        self.outcomes: list[ProgramOutcome | None] = [None] * len(values)
        self.waiting: deque[int] = deque()
        self.refused = False
        self._lock = threading.Lock()
        for position, value in enumerate(values):
            try:
                self.inputs.append(_written(value))
                self.waiting.append(position)
            except NotJSON as error:
                self.inputs.append(b"")
                self.outcomes[position] = ProgramOutcome(None, str(error), 0.0)
                self.refused = True

    def take(self, most: int, most_bytes: float = _LARGEST_GROUP_BYTES) -> list[int]:
        """Return the next inputs, at most `most` and at most `most_bytes`, unless the first alone is larger."""
        with self._lock:
            taken: list[int] = []
            size = 0
            while self.waiting and len(taken) < most:
                size += len(self.inputs[self.waiting[0]])
                if taken and size > most_bytes:
                    break
                taken.append(self.waiting.popleft())
            return taken

    def share(self, threads: int) -> int:
        """Return how many inputs the next request gets: fewer towards the end, so that all threads finish together."""
        if threads == 1:
            return _LARGEST_GROUP
        return max(1, min(_LARGEST_GROUP, -(-len(self.waiting) // (2 * threads))))

    def end(self, reason: str) -> None:
        """Fail the waiting inputs with this reason."""
        for position in self.take(len(self.inputs), _NO_LIMIT):
            self.outcomes[position] = ProgramOutcome(None, reason, 0.0)

    def done(self) -> list[ProgramOutcome]:
        """Return the outcomes, once all inputs have one."""
        return [outcome for outcome in self.outcomes if outcome is not None]

    def put_back(self, positions: list[int]) -> None:
        with self._lock:
            self.waiting.extendleft(reversed(positions))


# `json.dumps` makes an encoder for each call.
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def _written(value: Any) -> bytes:
    try:
        return _encode(value).encode()
    except (TypeError, ValueError) as error:
        raise NotJSON(f"Input is not JSON: {error}") from None
    except RecursionError:
        raise NotJSON("Input is nested too deeply") from None


def _outcome(kind: int, ms: float, text: bytes, limit: int) -> ProgramOutcome:
    if kind == _TIMEOUT or ms > limit:
        return _timed_out(limit)
    if kind == _ERROR:
        return ProgramOutcome(None, text.decode(), ms)
    written = text.decode()
    try:
        output = from_output(written)
        if "\\ud" in written:
            # Such an escape is a lone surrogate, which only JSON text can represent.
            json.dumps(output, ensure_ascii=False).encode()
    except NotJSON as error:
        return ProgramOutcome(None, str(error), ms)
    except UnicodeEncodeError:
        return ProgramOutcome(None, "Output is not valid Unicode: it has a lone surrogate", ms)
    except RecursionError:
        return ProgramOutcome(None, "Output is nested too deeply", ms)
    return ProgramOutcome(output, None, ms)


def _timed_out(limit: int) -> ProgramOutcome:
    return ProgramOutcome(None, f"Execution timeout after {limit}ms", float(limit))


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000


def _close_own(slots: dict[int, _Slots]) -> None:
    own = slots.pop(os.getpid(), None)
    if own is not None:
        own.close()
