"""Sets Django up with the site in `project/`, for these tests and without a variable that others would inherit."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("django")
import django

if TYPE_CHECKING:
    from loopai.testing import FakeLoopai

PROJECT = Path(__file__).parent / "project"

sys.path.append(str(PROJECT))
os.environ["DJANGO_SETTINGS_MODULE"] = "mailsite.settings"
django.setup()
del os.environ["DJANGO_SETTINGS_MODULE"]


@pytest.fixture
def project() -> Path:
    """The folder of the site."""
    return PROJECT


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """`enrich`, over `Mail` where nothing else is said, undone when the test ends."""
    from inbox.models import Mail

    from loopai.contrib.django import enrich
    from loopai.contrib.django.enrichment import enriching, saving

    made: list[Any] = []
    monkeypatch.setattr(saving, "_inline", saving._Inline())

    def one(model: Any = Mail, task: str = "spam", **options: Any) -> Any:
        # A busy machine is not what these tests are about; those that are say so.
        given = {"mapping": ["subject=subject"], "save_to": ["label=output.label"], "within": 60.0, **options}
        made.append(enrich(model, task, **given))
        return made[-1]

    yield one
    for declaration in made:
        enriching.forget(declaration)


@pytest.fixture
def spam(loopai_fake: FakeLoopai) -> Any:
    """The task `spam` of a fake, which finds everything to be ham."""
    task = loopai_fake.task("spam")
    task.returns({"label": "ham", "score": 7})
    return task


@pytest.fixture
def mail_admin() -> Iterator[None]:
    """An admin of `Mail`, with an action for the declaration `spam:label`."""
    from importlib import reload

    from django.conf import settings
    from django.contrib import admin
    from django.urls import clear_url_caches
    from inbox.models import Mail

    from loopai.contrib.django import enrich_action

    class Mails(admin.ModelAdmin):
        actions = (enrich_action("spam:label"),)
        fields = ("subject", "label")
        list_filter = ("score",)

    admin.site.register(Mail, Mails)
    urls = __import__(settings.ROOT_URLCONF, fromlist=["urlpatterns"])
    clear_url_caches()
    reload(urls)
    yield
    admin.site.unregister(Mail)
    clear_url_caches()
    reload(urls)
