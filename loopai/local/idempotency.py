"""`Idempotency-Key`: repeat the reply to an earlier POST with the same key, for a day.

Only successful replies are stored, in the transaction of the change itself, so that a retry after a crash finds either
both or neither. Refused requests may be repeated.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.responses import Response

from . import timestamps
from .errors import ApiError, invalid
from .responses import json_text
from .store import Store, Transaction

KEPT_SECONDS = 24 * 3600
LONGEST_KEY = 255


class Replayed(Exception):
    """The call was made before; `response` is the earlier reply."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class Keys:
    """The keys of one server: those in progress, and in the store those with a reply."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._working: dict[str, asyncio.Event] = {}

    @asynccontextmanager
    async def claim(self, key: str) -> AsyncIterator[None]:
        """Wait until no other request uses this key, and lock it in a `with` block."""
        while (working := self._working.get(key)) is not None:
            await working.wait()
        done = self._working[key] = asyncio.Event()
        try:
            yield
        finally:
            del self._working[key]
            done.set()

    def prune(self) -> None:
        """Delete replies older than a day. Blocks."""
        self._store.drop_replies(_since())

    def given(self, key: str, fingerprint: bytes) -> None:
        """Raise `Replayed` if there is an earlier reply, `ApiError` if the key was used for another call. Blocks."""
        stored = self._store.reply(key, _since())
        if stored is None:
            return
        known, status, location, body = stored
        if known != fingerprint:
            raise ApiError(
                422,
                "IDEMPOTENCY_KEY_REUSED",
                "This Idempotency-Key was used for another request: send a fresh key with each new request",
            )
        headers = {"Idempotent-Replayed": "true"}
        if location is not None:
            headers["Location"] = location
        raise Replayed(json_text(body, status, headers))

    def keep(self, transaction: Transaction, key: str, fingerprint: bytes, response: Response) -> bool:
        """Store a reply; return False if another process has replied under this key meanwhile. Blocks."""
        return self._store.keep_reply(
            transaction,
            key,
            fingerprint,
            response.status_code,
            response.headers.get("location"),
            bytes(response.body),
            _since(),
        )


def checked(key: str | None) -> str | None:
    """Return the header's value; `None` if it is missing. Raises `ApiError` if it is empty or too long."""
    if key is not None and not 0 < len(key) <= LONGEST_KEY:
        raise invalid([("Idempotency-Key", f"Idempotency-Key must have 1 to {LONGEST_KEY} characters")])
    return key


def fingerprint(method: str, path: str, content: bytes) -> bytes:
    """Return a digest that is equal for equal requests."""
    return hashlib.blake2b(b"\n".join((method.encode(), path.encode(), content)), digest_size=16).digest()


def _since() -> int:
    return timestamps.now() - KEPT_SECONDS * timestamps.TICKS_A_SECOND
