"""Errors of calls as problem documents: `problem_response` for a view, `ProblemMiddleware` for all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Optional

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse

from ...exceptions import LoopaiException, ValidationException
from ...problems import MEDIA_TYPE, problem_of

logger = logging.getLogger("loopai.django")


def problem_response(exception: LoopaiException) -> HttpResponse:
    """Return the response for an error of a call: status, problem document (RFC 9457), `Retry-After`.

    The upstream error is logged by `loopai.django`, because the document omits it. Raises `exception` again if it is
    not a `LoopaiException`.
    """
    if not isinstance(exception, LoopaiException):
        raise exception
    problem, headers = problem_of(exception)
    log(exception, problem.status)
    content = problem.model_dump_json(exclude_none=True)
    return HttpResponse(content, status=problem.status, content_type=MEDIA_TYPE, headers=headers)


def log(error: LoopaiException, status: int) -> None:
    """Log what the document omits and the view's author must know. Errors contain no key."""
    if status >= 500:
        logger.error("%s: %s", type(error).__name__, error, exc_info=error)
    elif isinstance(error, ValidationException):
        logger.warning("%s: %s", type(error).__name__, error, exc_info=error)


class ProblemMiddleware:
    """Responds to each `LoopaiException` of a view with its problem document, in sync and async views.

    Name it last in `MIDDLEWARE`. With `ATOMIC_REQUESTS` the view's transaction is rolled back first.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Pass the request on; in async mode Django awaits the result."""
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> Optional[HttpResponse]:
        """Respond to our exceptions; leave others to Django."""
        return problem_response(exception) if isinstance(exception, LoopaiException) else None
