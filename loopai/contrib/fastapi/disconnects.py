"""Cancel routes when their client disconnects."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from functools import wraps
from types import SimpleNamespace
from typing import Any, Callable, TypeVar, get_type_hints

from fastapi import Request, Response
from fastapi.routing import APIRoute

from ...exceptions import ConfigurationError

Endpoint = TypeVar("Endpoint", bound=Callable[..., Coroutine[Any, Any, Any]])

CLIENT_CLOSED_REQUEST = 499
"""The status that proxies log for a client that disconnected; the client does not receive it."""

_REQUEST = "loopai_request"


def cancel_on_disconnect(endpoint: Endpoint) -> Endpoint:
    """Cancel this route and its upstream calls when its client disconnects. Place it below the route's decorator.

    For one `async def` route; for whole routers use `CancelOnDisconnectRoute`. If the route takes the request itself,
    the whole body is read first. Streaming responses are not watched: Starlette ends them itself. Raises
    `ConfigurationError` for a `def` route, whose thread cannot be cancelled.
    """
    if not inspect.iscoroutinefunction(endpoint):
        raise ConfigurationError(
            f"cancel_on_disconnect: {getattr(endpoint, '__name__', endpoint)!r} is not an `async def` route, "
            "and a thread cannot be cancelled"
        )

    signature = _signature_of(endpoint)
    parameters = list(signature.parameters.values())
    # FastAPI passes the request to one parameter only: that of the route, if it has one.
    of_the_route = [each.name for each in parameters if _is_request(each.annotation)]
    if not of_the_route:
        parameters.append(inspect.Parameter(_REQUEST, inspect.Parameter.KEYWORD_ONLY, annotation=Request))

    @wraps(endpoint)
    async def watched(**arguments: Any) -> Any:
        request: Request = arguments[of_the_route[0]] if of_the_route else arguments.pop(_REQUEST)
        if of_the_route:
            # Watching consumes messages, and the route would wait for them forever.
            with suppress(RuntimeError):  # FastAPI has read it, as a form
                await request.body()
        return await _until_disconnect(request, endpoint(**arguments))

    # FastAPI reads the parameters from the signature.
    watched.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # a function
    return watched  # type: ignore[return-value]  # called as the endpoint is, by FastAPI


def _signature_of(endpoint: Callable[..., Any]) -> inspect.Signature:
    """Return the signature with evaluated annotations. Names that only type checkers know are unchanged."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        signature = inspect.signature(endpoint, annotation_format=Format.FORWARDREF)
    else:
        signature = inspect.signature(endpoint)
    names = getattr(inspect.unwrap(endpoint), "__globals__", {})

    def evaluated(annotation: Any) -> Any:
        alone = SimpleNamespace(__annotations__={"it": annotation})
        try:
            return get_type_hints(alone, names, include_extras=True)["it"]
        except (NameError, TypeError):  # imported under TYPE_CHECKING, or subscripted as only newer Pythons can
            return annotation

    parameters = [each.replace(annotation=evaluated(each.annotation)) for each in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=evaluated(signature.return_annotation))


def _is_request(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, Request)


class CancelOnDisconnectRoute(APIRoute):
    """A route that is cancelled with its upstream calls when its client disconnects.

    For a router or an application: `APIRouter(route_class=CancelOnDisconnectRoute)`. The whole body is read before the
    route runs. For one route, see `cancel_on_disconnect`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, with the client being watched."""
        handle = super().get_route_handler()

        async def watched(request: Request) -> Response:
            await request.body()
            response: Response = await _until_disconnect(request, handle(request))
            return response

        return watched


async def _until_disconnect(request: Request, work: Awaitable[Any]) -> Any:
    # The work stays in this task: timeouts and task groups of its dependencies must be left in the same task.
    task = asyncio.current_task()
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        if task is not None:
            task.cancel()

    watcher = asyncio.ensure_future(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if not gone:
            raise
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    finally:
        # From Python 3.11 on, tasks count cancellation requests; this one was ours.
        if gone and task is not None and hasattr(task, "uncancel"):
            task.uncancel()
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
