"""The documentation site, built as `make docs` builds it, looked at by a browser."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mkdocs", reason="the site is built on Python 3.10 and newer")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is in the development environment")

ROOT = Path(__file__).parents[2]
PAGES = [
    "index.html",
    "tutorials/django.html",
    "reference/options.html",
    "reference/client.html",
    "reference/exceptions.html",
    "batches.html",
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_nothing_on_the_site(site: Path, browser: Any, width: int, scheme: Any) -> None:
    """Pages with code, tables and generated members, wide and light, narrow and dark; none scrolls sideways."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    found = {}
    for name in PAGES:
        page.goto((site / name).as_uri())
        page.wait_for_selector(".md-search[aria-label]", state="attached")
        told = axe.Axe().run(page).response["violations"]
        if told:
            found[name] = [(one["id"], one["nodes"][0]["html"][:100]) for one in told]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    assert not found
