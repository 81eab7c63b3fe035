"""An `EXCEPTION_HANDLER` for Django REST framework: `loopai.contrib.django.rest_framework.exception_handler`."""

from __future__ import annotations

from typing import Any, Optional

from ...exceptions import ConfigurationError, LoopaiException
from ...problems import MEDIA_TYPE, problem_of
from .problems import log

try:
    from rest_framework import views
    from rest_framework.response import Response
except ImportError:
    raise ConfigurationError(
        "loopai.contrib.django.rest_framework needs Django REST framework: pip install djangorestframework"
    ) from None


def exception_handler(exc: Exception, context: dict[str, Any]) -> Optional[Any]:
    """Answer a `LoopaiException` with its problem document, and pass other exceptions to the framework's own handler.

    Like that handler, it rolls back the transaction of `ATOMIC_REQUESTS`.
    """
    if not isinstance(exc, LoopaiException):
        return views.exception_handler(exc, context)
    problem, headers = problem_of(exc)
    log(exc, problem.status)
    views.set_rollback()
    content = problem.model_dump(exclude_none=True)
    return Response(content, status=problem.status, headers=headers, content_type=MEDIA_TYPE)
