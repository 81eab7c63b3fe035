"""Sets Django up with the site in `project/`, for these tests and without a variable that others would inherit."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("django")
import django

PROJECT = Path(__file__).parent / "project"

sys.path.append(str(PROJECT))
os.environ["DJANGO_SETTINGS_MODULE"] = "mailsite.settings"
django.setup()
del os.environ["DJANGO_SETTINGS_MODULE"]


@pytest.fixture
def project() -> Path:
    """The folder of the site."""
    return PROJECT
