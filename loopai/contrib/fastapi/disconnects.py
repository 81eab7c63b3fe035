"""Routes whose work ends when the client that asked for it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Callable

from fastapi import Request, Response
from fastapi.routing import APIRoute

CLIENT_CLOSED_REQUEST = 499
"""The status that proxies log for a client that went away; nobody receives it."""


class CancelOnDisconnectRoute(APIRoute):
    """A route that is cancelled, with its upstream calls, when its client disconnects.

    By choice, for a router or an application: `APIRouter(route_class=CancelOnDisconnectRoute)`. The request's body is
    read whole before the route runs; a response that streams is not watched.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, raced with the disconnect."""
        handle = super().get_route_handler()

        async def watched(request: Request) -> Response:
            await request.body()
            work = asyncio.ensure_future(handle(request))
            gone = asyncio.ensure_future(_disconnected(request))
            try:
                await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    return work.result()
                return Response(status_code=CLIENT_CLOSED_REQUEST)
            finally:
                for task in (work, gone):
                    task.cancel()
                await asyncio.gather(work, gone, return_exceptions=True)

        return watched


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
