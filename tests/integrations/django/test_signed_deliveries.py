"""Signed deliveries through Django's own requests."""

from __future__ import annotations

from django.test import RequestFactory

from loopai import webhooks
from loopai.testing import signed_webhook


def test_django_s_test_client_sends_the_very_bytes_that_were_signed() -> None:
    """`as_django` keeps body and headers through a request of Django's."""
    request = RequestFactory().post("/hook", **signed_webhook("canaryCompleted", secret="s").as_django())
    assert request.content_type == "application/json"
    assert webhooks.parse_event(request.body, request.headers, "s").event_type == "canaryCompleted"
