"""What the routes of a `runs_router` do: take uploads, find, resume and end runs. The routes are in `router`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Optional
from uuid import UUID

from anyio import CapacityLimiter, to_thread
from fastapi import Request

from ....batch.engine.event_loop import in_thread
from ....batch.engine.stopping import Stop
from ....batch.formats.sinks import explain
from ....batch.locks import AlreadyLocked
from ..batch_runs import Asked, Options
from ..dependencies import loopai_state
from ..problems import RefusedRequest
from ..uploads import Gone, Upload, UploadError
from .folder import BUSY_FOR, RunFolder, digest_of
from .records import ENDED, RunRecord, RunStatus
from .spooling import Spooler, add_run, receive_into, record_of, router_name
from .stored import FolderFull, Incoming, StoredRun

COMING_FOR = 2
"""Retry-After, in seconds, while the first upload with an idempotency key is still being received."""


def gone(run_id: UUID) -> RefusedRequest:
    """Return the error for a run that does not exist or belongs to another caller."""
    return RefusedRequest(404, "Not found", f"There is no run {run_id}")


class Answers:
    """What the routes of a router do."""

    def __init__(self, task: str, folder: RunFolder, name: str, alias: str, shared: Options, kept: dict[str, Any]):
        self.task, self.folder, self.alias = task, folder, alias
        self.router = router_name(name, task)
        self.shared = shared
        self.kept = kept

    async def start(self, request: Request, owner: str, asked: Asked, key: Optional[str]) -> tuple[RunStatus, bool]:
        """Take the upload. Return the run, and whether an earlier request with the key made it.

        Raises `RefusedRequest` and `Gone`.
        """
        if not key:
            return await self._take(request, owner, asked, None), False
        digest = self.folder.key_digest(owner, self.router, key)
        try:
            held = await in_thread(self.folder.lock_key, digest)
        except AlreadyLocked:
            raise RefusedRequest(
                409,
                "Conflict",
                "The upload with this Idempotency-Key is still in progress",
                {"Retry-After": str(COMING_FOR)},
            ) from None
        try:
            claimed = await in_thread(self.folder.claimed, digest, owner)
            if claimed is None:
                return await self._take(request, owner, asked, digest), False
        finally:
            await in_thread(self.folder.release_key, digest, held)
        run, content = claimed
        found = await self._read(request, asked, None)
        if self._content(found) != content:
            raise RefusedRequest(422, "Not valid", "The Idempotency-Key was used for another upload, or other options")
        with suppress(FileNotFoundError):
            return await in_thread(run.told), True
        raise RefusedRequest(409, "Conflict", "The run of this Idempotency-Key was removed meanwhile")

    def _content(self, spooler: Spooler) -> str:
        return digest_of(spooler.content, repr(sorted(self.kept.items())), repr(self.shared.mapping.parts))

    async def _take(self, request: Request, owner: str, asked: Asked, key: Optional[str]) -> RunStatus:
        try:
            incoming: Incoming = await in_thread(self.folder.reserve, owner, asked.length or 0)
        except FolderFull as full:
            raise _refused(full) from None
        except OSError as error:
            raise _disk(error) from None
        try:
            spooler = await self._read(request, asked, incoming)
            return await in_thread(self._add, incoming, owner, key, spooler)
        except FolderFull as full:
            raise _refused(full) from None
        except OSError as error:
            raise _disk(error) from None
        finally:
            await in_thread(incoming.close)

    def _add(self, incoming: Incoming, owner: str, key: Optional[str], spooler: Spooler) -> RunStatus:
        record = record_of(owner, self.router, self.task, self.alias, self.kept)
        claim = None if key is None else (key, self._content(spooler))
        return add_run(self.folder, incoming, record, claim).told()

    async def _read(self, request: Request, asked: Asked, incoming: Optional[Incoming]) -> Spooler:
        """Read the upload, and store it if there is a place. Raises `RefusedRequest`, `Gone` and `OSError`."""
        upload = Upload(self.shared.limits.max_bytes)
        spooler = Spooler(upload, asked, self.shared, incoming)
        feeding = asyncio.ensure_future(receive_into(upload, request.receive, self.shared.idle_timeout))
        feeding.add_done_callback(lambda task: _tell(task, upload))
        # A slow client does not delay a shutdown.
        stop, state = Stop(), loopai_state(request)
        stop.on_request(lambda: upload.fail(UploadError("the application shuts down: send it again", 503)))
        state.add_batch(stop)
        try:
            # A separate thread, so that waiting for a client blocks nothing else. If abandoned, it ends by itself.
            await to_thread.run_sync(spooler.work, abandon_on_cancel=True, limiter=CapacityLimiter(1))
        except UploadError as error:
            headers = {"Retry-After": str(BUSY_FOR)} if error.status == 503 else None
            raise RefusedRequest(error.status, "The upload cannot be read", str(error), headers) from None
        finally:
            state.remove_batch(stop)
            upload.fail(Gone())
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        return spooler

    async def find(self, owner: str, run_id: UUID) -> StoredRun:
        """Return the caller's run. Raises `RefusedRequest` if there is none with that id."""
        run = await in_thread(self.folder.find, owner, self.router, run_id)
        if run is None:
            raise gone(run_id)
        return run

    def resume(self, run: StoredRun, retry_failed: bool) -> RunStatus:
        """Put a run that has ended back in the queue. Blocks; raises `RefusedRequest`."""
        try:
            with run.locked(at_rest=True):
                record = run.read()
                if record.state in ENDED:
                    self._again(run, record, retry_failed)
                elif retry_failed:
                    raise RefusedRequest(409, "Conflict", "The run has not ended: cancel it, or wait for its end")
                else:
                    record.not_before = None
                    run.write(record)
        except AlreadyLocked:
            raise RefusedRequest(409, "Conflict", "The run is at work") from None
        except FolderFull as full:
            raise _refused(full) from None
        except OSError as error:
            raise _disk(error) from None
        self.folder.wake()
        return run.told()

    def _again(self, run: StoredRun, record: RunRecord, retry_failed: bool) -> None:
        if record.state == "finished" and not retry_failed:
            raise RefusedRequest(
                409, "Conflict", "The run is finished; its failed rows run again with retry_failed=true"
            )
        if record.state == "finished" and not record.errors:
            raise RefusedRequest(409, "Conflict", "The run is finished, and no row has failed")
        record.again_as = self.folder.recorded(run).generation + 1 if retry_failed and record.errors else None
        record.state, record.reason, record.error = "waiting", None, None
        record.not_before = record.ended = None
        self.folder.put_back(run, record)

    def delete(self, run: StoredRun) -> Optional[RunStatus]:
        """Remove a run that has ended, or cancel an active one and return its status. Blocks."""
        try:
            held = run.lock_at_rest()
        except AlreadyLocked:
            run.cancel()
            return run.told()
        try:
            record = run.read()
            if record.state not in ENDED:
                found = self.folder.recorded(run)
                record.state, record.ended = "cancelled", self.folder.clock()
                record.reason = record.error = record.not_before = None
                record.ok, record.doubtful, record.errors = found.ok, found.doubtful, found.errors
                record.figures = run.figures()
                run.end(record)
                return run.told(record)
            run.remove()
        finally:
            held.close()
        return None


def _tell(task: asyncio.Future[bool], upload: Upload) -> None:
    """Tell the thread that the upload has ended."""
    if task.cancelled() or task.exception() is not None or not task.result():
        upload.fail(Gone())


def _refused(full: FolderFull) -> RefusedRequest:
    if full.status == 507:
        return RefusedRequest(507, "Insufficient storage", full.message)
    return RefusedRequest(503, "Busy", full.message, {"Retry-After": str(BUSY_FOR)})


def _disk(error: OSError) -> RefusedRequest:
    told = str(explain(error, "the folder of runs", resumable=False))
    return RefusedRequest(507, "Insufficient storage", told)
