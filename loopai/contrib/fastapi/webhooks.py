"""`webhook_router` and the `webhook_event` dependency: raw bytes, rotation, a size limit, each event handled once."""

# ruff: noqa: FA100  # see below
# No `from __future__ import annotations`: FastAPI cannot look up what a router's functions close over.
import inspect
from collections.abc import Awaitable, Iterable
from typing import Annotated, Any, Callable, Optional, Union

from anyio import CancelScope
from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from ...config import NOT_GIVEN, NotGiven
from ...exceptions import ConfigurationError
from ...models import WebhookEvent
from ...webhooks import TOLERANCE, WebhookError, parse_event
from .dependencies import loopai_state
from .event_stores import EventStore, MemoryEventStore
from .lifespan import CHECK, STATE_KEY, STORE, LoopaiState
from .problems import RETRY_AFTER, ProblemRoute, RefusedRequest, documented_problem

LARGEST_DELIVERY = 1_000_000
"""Bytes. The server's events have some hundred, and their `data` at most a program's input."""

Secrets = Union[str, Iterable[str], None]


def _too_large(limit: int) -> RefusedRequest:
    return RefusedRequest(413, "Too large", f"At most {limit} bytes.")


async def _body_of(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def webhook_event(
    secrets: Secrets = None,
    *,
    tolerance: Union[float, NotGiven, None] = NOT_GIVEN,
    max_bytes: int = LARGEST_DELIVERY,
    alias: str = "default",
) -> Callable[[Request], Awaitable[WebhookEvent]]:
    """Return a dependency for the verified event: `event: Annotated[WebhookEvent, Depends(webhook_event(...))]`.

    `secrets` are by default those of `LoopaiSettings.webhook_secrets`. Events older than `tolerance` seconds are
    rejected (by default `LoopaiSettings.webhook_tolerance`, one hour); None accepts any age. Responds 400, without a
    reason, if the delivery is not signed by one of the secrets, too old, or not an event, and 413 above `max_bytes`.
    The route must detect repeated deliveries by `event.id` itself; `webhook_router` does that for you.
    """
    given = None if secrets is None else [secrets] if isinstance(secrets, str) else list(secrets)
    if given is not None and not (given and all(given)):
        raise ConfigurationError("webhook_event: secrets are empty, so that anybody could send events")

    async def verified_event(request: Request) -> WebhookEvent:
        keys = given if given is not None else _configured(request, alias)
        body = await _body_of(request, max_bytes)
        try:
            return parse_event(body, request.headers, keys, tolerance=_tolerance(request, alias, tolerance))
        except WebhookError:
            # No reason in the response: it would help a forger.
            raise RefusedRequest(400, "Bad request", "The delivery is not accepted.") from None

    if given is None:
        setattr(verified_event, CHECK, lambda state: _secrets_of(state, alias))
    return verified_event


def _tolerance(request: Request, alias: str, given: Union[float, NotGiven, None]) -> Optional[float]:
    if not isinstance(given, NotGiven):
        return given
    # Without the lifespan, the router may still have its own secrets.
    state = request.scope.get("state", {}).get(STATE_KEY)
    settings = None if state is None else state.settings(alias)
    return TOLERANCE if settings is None else settings.webhook_tolerance


def _configured(request: Request, alias: str) -> list[str]:
    return _secrets_of(loopai_state(request), alias)


def _secrets_of(state: LoopaiState, alias: str) -> list[str]:
    settings = state.settings(alias)
    secrets = [] if settings is None else [secret.get_secret_value() for secret in settings.webhook_secrets]
    if not secrets:
        raise ConfigurationError(
            "no webhook secrets: pass webhook_router(secrets=...) or set LOOPAI_WEBHOOK_SECRETS (new,old)"
        )
    return secrets


WebhookEventDep = Annotated[WebhookEvent, Depends(webhook_event())]
"""A route's parameter `event: WebhookEventDep` is the verified event; secrets are those of the settings."""


def webhook_router(
    secrets: Secrets = None,
    on_event: Union[Callable[[WebhookEvent], Awaitable[None]], Callable[[WebhookEvent], None], None] = None,
    *,
    path: str = "/webhooks/loopai",
    tolerance: Union[float, NotGiven, None] = NOT_GIVEN,
    max_bytes: int = LARGEST_DELIVERY,
    store: Optional[EventStore] = None,
    alias: str = "default",
) -> APIRouter:
    """Return a router that passes each event once to `on_event` and responds 204, also to repeated deliveries.

    `on_event` is an `async def` function, or a `def` function, which runs in a thread. If it raises, the event is not
    recorded, and the server's next delivery is handled. A repeated delivery in the meantime gets 409, so that the
    server sends it again. Rejections are problem documents. `tolerance` is as in `webhook_event`. `store` records
    handled events, by default in this process. The application's Loopai lifespan closes it.
    """
    if on_event is None:
        raise ConfigurationError("webhook_router needs on_event, a function that takes the event")
    given: Any = on_event
    called: Any = given if inspect.isroutine(given) else given.__call__  # for callable objects, look at `__call__`
    in_thread = not inspect.iscoroutinefunction(called)
    events = MemoryEventStore() if store is None else store
    verified = webhook_event(secrets, tolerance=tolerance, max_bytes=max_bytes, alias=alias)
    router = APIRouter(tags=["webhooks"], route_class=ProblemRoute)
    answers: dict[Union[int, str], dict[str, Any]] = {
        400: documented_problem("Not signed with a secret of ours, of another time, or no event"),
        409: {**documented_problem("Another delivery of the event is being handled"), "headers": RETRY_AFTER},
        413: documented_problem(f"Larger than {max_bytes} bytes"),
    }

    @router.post(path, status_code=204, response_class=Response, responses=answers)
    async def receive(event: Annotated[WebhookEvent, Depends(verified)]) -> None:
        """Receive a delivery of a Loopai server."""
        claim = await events.claim(event.id)
        if claim == "handling":
            raise RefusedRequest(
                409, "Conflict", "Another delivery of the event is being handled.", {"Retry-After": "1"}
            )
        if claim == "handled":
            return
        try:
            await (run_in_threadpool(given, event) if in_thread else given(event))
        except BaseException:  # a cancelled handler did not handle it either
            with CancelScope(shield=True):
                await events.release(event.id)
            raise
        with CancelScope(shield=True):
            await events.finish(event.id)

    setattr(receive, STORE, events)
    return router
