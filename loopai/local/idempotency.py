"""`Idempotency-Key`: the reply to a POST that was made before is given again, for a day.

Only replies that say yes are kept, in the transaction of what they tell of, so that a retry after a crash finds either
both or neither. What was refused may be asked anew.
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
    """The call was made before; `response` is what was answered then."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class Keys:
    """The keys of one server: those being worked on, and in the store those answered."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._working: dict[str, asyncio.Event] = {}

    @asynccontextmanager
    async def claim(self, key: str) -> AsyncIterator[None]:
        """Wait until no other request works under this key, and keep it for the block."""
        while (working := self._working.get(key)) is not None:
            await working.wait()
        done = self._working[key] = asyncio.Event()
        try:
            yield
        finally:
            del self._working[key]
            done.set()

    def prune(self) -> None:
        """Forget what is older than a day. Blocks."""
        self._store.drop_replies(_since())

    def given(self, key: str, fingerprint: bytes) -> None:
        """Raise `Replayed` where the call was answered before, `ApiError` where its key was another's. Blocks."""
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
        """Keep a reply; False where another process has answered under this key meanwhile. Blocks."""
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
    """The header's value; `None` where there is none. Raises `ApiError` for one that is too long or empty."""
    if key is not None and not 0 < len(key) <= LONGEST_KEY:
        raise invalid([("Idempotency-Key", f"Idempotency-Key must have 1 to {LONGEST_KEY} characters")])
    return key


def fingerprint(method: str, path: str, content: bytes) -> bytes:
    """What makes two requests the same."""
    return hashlib.blake2b(b"\n".join((method.encode(), path.encode(), content)), digest_size=16).digest()


def _since() -> int:
    return timestamps.now() - KEPT_SECONDS * timestamps.TICKS_A_SECOND
