"""Uses both clients at import, as careless code does: what forks afterwards inherits warm ones."""

import asyncio
import os
import threading

from loopai.contrib.django import get_async_client, get_client

WARMED_IN = os.getpid()


def warm() -> None:
    """Have the clients of this process used."""
    assert get_client().execute("spam", {"text": "warm"}).output == {"text": "warm"}
    assert asyncio.run(get_async_client().execute("spam", {"text": "warm"})).output == {"text": "warm"}


if os.environ.get("MAILSITE_UPSTREAM"):
    # In a thread, as uvicorn imports the site inside its event loop.
    warming = threading.Thread(target=warm)
    warming.start()
    warming.join()
