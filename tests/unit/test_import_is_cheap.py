"""`import loopai` brings what a client needs, and nothing of the extras."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXTRAS = [
    "aiohttp", "celery", "django", "fastapi", "httpx2", "jsonschema_rs", "kombu", "numpy", "openai", "opentelemetry",
    "pandas", "prometheus_client", "pyarrow", "pydantic_monty", "pydantic_settings", "pyreqwest", "pytest", "rich",
    "scipy", "sklearn", "sqlalchemy", "sqlite3", "starlette", "typer", "uvicorn",
]  # fmt: skip
PARTS = [
    "loopai.cli",
    "loopai.contrib",
    "loopai.local",
    "loopai.programs",
    "loopai.pytest_plugin",
    "loopai.telemetry",
    "loopai.testing",
]


def modules_after(code: str) -> set[str]:
    shown = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}\nprint(*sys.modules)"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return set(shown.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import loopai",
        "from loopai import LoopaiClient, SyncLoopaiClient; SyncLoopaiClient('http://x'); LoopaiClient('http://x')",
        "from loopai import models, exceptions, webhooks",
    ],
)
def test_none_of_the_extras_is_imported(code: str) -> None:
    """Neither by the import nor by making a client."""
    found = modules_after(code)
    # httpx imports rich for its own command line, where that is installed.
    assert not found & {*EXTRAS, *PARTS} - modules_after("import httpx")
    assert "loopai" in found


def test_the_package_alone_imports_nothing_of_its_own() -> None:
    """Names come when they are used: `import loopai` needs neither pydantic nor httpx yet."""
    assert not modules_after("import loopai") & {"pydantic", "httpx", "loopai.client", "loopai.models"}


def test_exceptions_and_configuration_need_little() -> None:
    """Every public name is there after the one import."""
    found = modules_after(
        "import loopai; missing = [n for n in loopai.__all__ if not hasattr(loopai, n)]; assert not missing, missing"
    )
    assert "loopai.client" in found
