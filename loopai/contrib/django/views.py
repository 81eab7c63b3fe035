"""The webhook views. What a delivery does is in `deliveries`."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.request import UnreadablePostError

from . import deliveries

LARGEST_DELIVERY = 1_000_000
"""Bytes; the server's events are some hundred, and their `data` a program's input at most."""

_JSON = "application/json"


def _body(request: HttpRequest) -> bytes:
    """The body as it came, of a size and type that the server sends; never more than the limit is read."""
    declared = request.META.get("CONTENT_LENGTH") or "0"
    if request.content_type != _JSON or not declared.isdigit() or int(declared) > LARGEST_DELIVERY:
        raise deliveries.Refused
    try:
        # Not `request.body`, which has a limit of its own, answers in its own way, and reads all there is.
        body: bytes = request.read(LARGEST_DELIVERY + 1)
    except UnreadablePostError:
        raise deliveries.Refused from None
    if len(body) > LARGEST_DELIVERY:
        raise deliveries.Refused
    return body


def webhook(request: HttpRequest) -> HttpResponse:
    """Take a delivery of a Loopai server: 204 once it is handled, and for one that was handled before; else 400.

    The same under WSGI and ASGI.
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
    """As `webhook`, for ASGI: what is refused takes no thread."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    try:
        event, alias = deliveries.read(_body(request), request.headers)
    except deliveries.Refused:
        return _refused()
    await sync_to_async(deliveries.handle)(event, alias)
    return HttpResponse(status=204)


def _refused() -> HttpResponse:
    # One answer, without a reason: a forger would learn what to mend.
    return HttpResponse(status=400)


# Servers have no cookie of ours. Set by hand: Django 4.2's decorator makes an async view a sync one.
webhook.csrf_exempt = True  # type: ignore[attr-defined]  # how Django marks a view
awebhook.csrf_exempt = True  # type: ignore[attr-defined]  # how Django marks a view
