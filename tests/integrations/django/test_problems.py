"""Errors of calls in plain Django views and in Django REST framework, as FastAPI's handlers answer them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from inbox.models import Message

from loopai.contrib.django.problems import problem_response
from loopai.exceptions import (
    ConnectionException,
    LoopaiException,
    NotFoundException,
    RateLimitException,
    ValidationException,
)

ERRORS: dict[str, Exception] = {
    "missing": NotFoundException("no such task", 404, code="TASK_NOT_FOUND", trace_id="t"),
    "rationed": RateLimitException("slow down", 429),
    "invalid": ValidationException("bad input", 400),
    "away": ConnectionException("https://internal.test refused"),
    "odd": LoopaiException("secret host"),
    "other": ZeroDivisionError("ours"),
}


def plain(request: HttpRequest, which: str) -> HttpResponse:
    Message.objects.create(text="undone")
    raise ERRORS[which]


async def asynchronous(request: HttpRequest, which: str) -> HttpResponse:
    raise ERRORS[which]


def atomic(request: HttpRequest, which: str) -> HttpResponse:
    with transaction.atomic():
        return plain(request, which)


urlpatterns: list[Any] = [
    path("plain/<which>/", plain),
    path("async/<which>/", asynchronous),
    path("atomic/<which>/", atomic),
]

try:
    from rest_framework.decorators import api_view
    from rest_framework.exceptions import Throttled

    @api_view()
    def rest(request: Any, which: str) -> Any:
        if which == "throttled":
            raise Throttled(wait=7)
        Message.objects.create(text="undone")
        raise ERRORS[which]

    urlpatterns.append(path("rest/<which>/", transaction.atomic(rest)))
except ImportError:
    pass

with_middleware = override_settings(
    ROOT_URLCONF=__name__, MIDDLEWARE=["loopai.contrib.django.problems.ProblemMiddleware"]
)
EXPECTED = {"missing": 404, "rationed": 429, "invalid": 422, "away": 503, "odd": 502}


@pytest.mark.parametrize(("which", "status"), EXPECTED.items())
def test_a_function_for_one_view(which: str, status: int) -> None:
    """Status, media type and document; what would name hosts is not in it."""
    error: Any = ERRORS[which]
    answer = problem_response(error)
    document = json.loads(answer.content)
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    assert document["status"] == status
    assert "internal" not in document["detail"]
    assert ("Retry-After" in answer) == (which == "rationed")
    with pytest.raises(ZeroDivisionError):
        problem_response(ERRORS["other"])  # type: ignore[arg-type]


@pytest.mark.django_db(transaction=True)
@with_middleware
@pytest.mark.parametrize(("which", "status"), EXPECTED.items())
def test_a_middleware_for_all_views(which: str, status: int) -> None:
    """Sync views; a transaction of the view is rolled back first."""
    answer = Client().get(f"/atomic/{which}/")
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    assert Message.objects.count() == 0


@with_middleware
async def test_a_middleware_for_async_views() -> None:
    """And what is not ours is Django's."""
    answer = await AsyncClient().get("/async/missing/")
    assert (answer.status_code, json.loads(answer.content)["code"]) == (404, "TASK_NOT_FOUND")
    with pytest.raises(ZeroDivisionError):
        await AsyncClient().get("/async/other/")


@pytest.mark.django_db(transaction=True)
@override_settings(
    ROOT_URLCONF=__name__,
    REST_FRAMEWORK={
        "EXCEPTION_HANDLER": "loopai.contrib.django.rest_framework.exception_handler",
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "UNAUTHENTICATED_USER": None,
    },
)
def test_rest_framework() -> None:
    """Documents for ours; the framework's own errors are its own; what is neither is raised."""
    pytest.importorskip("rest_framework")
    for which, status in EXPECTED.items():
        answer = Client().get(f"/rest/{which}/")
        assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
        assert json.loads(answer.content)["status"] == status
    throttled = Client().get("/rest/throttled/")
    assert (throttled.status_code, throttled["Retry-After"]) == (429, "7")
    with pytest.raises(ZeroDivisionError):
        Client().get("/rest/other/")


@pytest.mark.django_db(transaction=True)
def test_rest_framework_rolls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under ATOMIC_REQUESTS, as its own handler does."""
    pytest.importorskip("rest_framework")
    from django.db import connections

    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    handler = "loopai.contrib.django.rest_framework.exception_handler"
    with override_settings(ROOT_URLCONF=__name__, REST_FRAMEWORK={
        "EXCEPTION_HANDLER": handler, "DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None,
    }):  # fmt: skip
        assert Client().get("/rest/missing/").status_code == 404
    assert Message.objects.count() == 0
