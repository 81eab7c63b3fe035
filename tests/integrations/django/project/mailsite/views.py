"""Views that ask a server, with either client."""

import os

from django.http import HttpRequest, JsonResponse

from loopai.contrib.django import get_async_client, get_client


def check(request: HttpRequest) -> JsonResponse:
    """The verdict on a text, and the process that gave it."""
    result = get_client().execute("spam", {"text": request.GET["text"]})
    return JsonResponse({"output": result.output, "process": os.getpid()})


async def acheck(request: HttpRequest) -> JsonResponse:
    """The same, asynchronously."""
    result = await get_async_client().execute("spam", {"text": request.GET["text"]})
    return JsonResponse({"output": result.output, "process": os.getpid()})
