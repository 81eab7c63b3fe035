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
    """Return the answer that an error of a call becomes: status, problem document (RFC 9457), `Retry-After`.

    What was wrong upstream is logged under `loopai.django`, as the document does not say it. Raises `exception` again
    where it is not a `LoopaiException`.
    """
    if not isinstance(exception, LoopaiException):
        raise exception
    problem, headers = problem_of(exception)
    log(exception, problem.status)
    content = problem.model_dump_json(exclude_none=True)
    return HttpResponse(content, status=problem.status, content_type=MEDIA_TYPE, headers=headers)


def log(error: LoopaiException, status: int) -> None:
    """Log what the document does not say, and what the view's author has to know. Errors hold no key."""
    if status >= 500:
        logger.error("%s: %s", type(error).__name__, error, exc_info=error)
    elif isinstance(error, ValidationException):
        logger.warning("%s: %s", type(error).__name__, error, exc_info=error)


class ProblemMiddleware:
    """Answers each `LoopaiException` that a view raises with its problem document, in sync and async views.

    Name it last in `MIDDLEWARE`. With `ATOMIC_REQUESTS` the view's transaction is rolled back first.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Hand the request on; what that gives is awaited by Django where it is to be."""
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> Optional[HttpResponse]:
        """Answer ours; everything else is Django's."""
        return problem_response(exception) if isinstance(exception, LoopaiException) else None
