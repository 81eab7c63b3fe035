"""The webhook views. Deliveries are handled in `deliveries`."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.request import UnreadablePostError

from . import deliveries

LARGEST_DELIVERY = 1_000_000
"""Most bytes of a body: the server's events have a few hundred, and their `data` at most a program's input."""

_JSON = "application/json"


def _body(request: HttpRequest) -> bytes:
    """Return the raw body, if its size and type are what the server sends. Never reads more than the limit."""
    declared = request.META.get("CONTENT_LENGTH") or "0"
    if request.content_type != _JSON or not declared.isdigit() or int(declared) > LARGEST_DELIVERY:
        raise deliveries.Refused
    try:
        # Not `request.body`, which has its own limit and error response, and reads the whole body.
        body: bytes = request.read(LARGEST_DELIVERY + 1)
    except UnreadablePostError:
        raise deliveries.Refused from None
    if len(body) > LARGEST_DELIVERY:
        raise deliveries.Refused
    return body


def webhook(request: HttpRequest) -> HttpResponse:
    """Receive a delivery of a Loopai server. Responds 204 if it is handled, now or before, otherwise 400.

    Works under WSGI and ASGI.
    """
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    try:
        event, alias = deliveries.read(_body(request), request.headers)
    except deliveries.Refused:
        return _refused()
    deliveries.handle(event, alias)
    return HttpResponse(status=204)


async def awebhook(request: HttpRequest) -> HttpResponse:
    """Like `webhook`, for ASGI: rejected deliveries need no thread."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    try:
        event, alias = deliveries.read(_body(request), request.headers)
    except deliveries.Refused:
        return _refused()
    await sync_to_async(deliveries.handle)(event, alias)
    return HttpResponse(status=204)


def _refused() -> HttpResponse:
    # One response without a reason, which would help a forger.
    return HttpResponse(status=400)


# Servers have no CSRF cookie. Set by hand, because Django 4.2's decorator makes an async view a sync one.
webhook.csrf_exempt = True  # type: ignore[attr-defined]  # how Django marks a view
awebhook.csrf_exempt = True  # type: ignore[attr-defined]  # how Django marks a view
