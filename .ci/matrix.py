"""Run the tests in environments with older and newer Pythons and libraries, each in its own folder under .matrix/.

Run it with a Python that has the embedded server. Exit code 1 if a run failed; with CI=true also if none was found.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from loopai import local

EVERYTHING = ["tests/unit", "tests/contract", "tests/integrations"]
DJANGO = "tests/integrations/django"
FASTAPI = "tests/integrations/fastapi"
OLDEST_FASTAPI = [FASTAPI]
# Tests that read and write files, and tests that use a database and Celery.
LOWEST_BATCHES = [
    "tests/unit/test_batch_files.py",
    "tests/unit/test_batch_outputs.py",
    "tests/unit/test_batch_opened_files.py",
    f"{DJANGO}/test_batch_querysets.py",
    f"{DJANGO}/test_celery_runs.py",
    f"{DJANGO}/test_commands.py",
]
TOOLS = ["-m", "slow", "tests/integrations/test_tools_of_agents.py"]
# The documentation's snippets need the development environment.
LEFT_OUT = ["--ignore=tests/integrations/test_docs_run.py"]
# Below this the embedded server cannot run: the contract suite uses one on this Python, in-process tests skip.
SERVER_FROM = (3, 10)
PORTS = {"postgresql": 5432, "mariadb": 3306}


@dataclass(frozen=True)
class Environment:
    """A Python, its packages, and its tests; pip installs the newest versions that the Python allows."""

    python: str
    tests: list[str]
    packages: list[str]
    database: str = "sqlite"  # for Django's tests
    smoke: list[str] | None = None  # the tests that `--smoke` runs


# `make test` runs everything on the newest Python, with SQLite: newer environments here only test what differs.
ENVIRONMENTS = {
    # Django 4.2, and the last FastAPI for this Python
    "3.9": Environment(
        "3.9",
        EVERYTHING,
        [".[all,test]"],
        smoke=[
            "tests/unit",
            "tests/contract",
            f"{DJANGO}/test_aliases.py",
            f"{DJANGO}/test_batch_querysets.py",
            f"{DJANGO}/test_checks.py",
            f"{DJANGO}/test_enrich.py",
            f"{DJANGO}/test_enrich_views.py",
            f"{DJANGO}/test_webhook_view.py",
        ],
    ),
    # the oldest that the extra `fastapi` allows, with the oldest pytest-httpx that reads its httpx
    "3.10-oldest": Environment(
        "3.10",
        OLDEST_FASTAPI,
        [
            ".[fastapi]",
            "anyio==4.5.0",
            "fastapi==0.133.0",
            "httpx==0.27.0",
            "httpx2",  # for Starlette's test client
            "pydantic==2.7.0",
            "pydantic-settings==2.7.0",
            "python-multipart==0.0.31",
            "starlette==1.3.1",
            "uvicorn==0.30.0",
            "psutil",
            "pytest",
            "pytest-asyncio",
            "pytest-httpx==0.32.0",
            "trustme",
        ],
        smoke=OLDEST_FASTAPI,
    ),
    # the lowest versions of everything else that the client and the embedded server need
    "3.10-lowest": Environment(
        "3.10",
        ["tests/contract"],
        [
            ".[cli,dataframes,edge,fastapi,httpx2,otel,server]",
            "anyio==4.5.0",
            "fastapi==0.133.0",
            "fastapi-offline==1.7.0",
            "httptools==0.6.0",
            "httpx==0.27.0",
            "httpx2",  # for Starlette's test client
            "jsonschema-rs==0.52.0",
            "narwhals==1.20.0",
            "opentelemetry-api==1.25.0",
            "prometheus-client==0.20.0",
            "pydantic==2.7.0",
            "pydantic-monty==1.4.0",
            "pydantic-settings==2.7.0",
            "python-multipart==0.0.31",
            "rich==13.0.0",
            "scikit-learn==1.5.0",
            "sniffio==1.3.0",
            "sqlalchemy==2.0.0",
            "starlette==1.3.1",
            "typer==0.12.0",
            "uvicorn==0.30.0",
            "asgiref",
            "hypothesis",
            "psutil",
            "pytest",
            "pytest-asyncio",
            "pytest-httpx==0.32.0",
            "trustme",
        ],
    ),
    # the lowest versions of what batches, Django and Celery need, and of the other transports
    "3.11-lowest": Environment(
        "3.11",
        ["tests/unit", "tests/contract", DJANGO],
        [
            ".[celery,cli,dataframes,django,edge,excel,fast,httpx2,parquet,server,zstd,test]",
            "celery==5.4.0",
            "django==4.2",
            "httpx2==2.4.0",
            "narwhals==1.20.0",
            "pyarrow==23.0.1",
            "pydantic==2.7.0",
            "pyreqwest==0.15.0",
            "python-calamine==0.4.0",
            "zstandard==0.22.0",
        ],
        smoke=LOWEST_BATCHES,
    ),
    # libraries that use a bound task as a tool
    "tools": Environment("3.12", TOOLS, [".[test,test-tools]"], smoke=TOOLS),
    # Django 5.2
    "3.10": Environment("3.10", EVERYTHING, [".[all,test]"], "postgresql"),
    # the newest Django and FastAPI
    "3.12": Environment("3.12", ["tests/contract", DJANGO, FASTAPI], [".[all,test]"], "mariadb"),
    "3.13": Environment("3.13", ["tests/contract", DJANGO], [".[all,test]"], "postgresql"),
}


def find(version: str) -> str | None:
    found = subprocess.run([".ci/find-python", version], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def install(name: str, base: str) -> Path:
    """Return the environment's interpreter; recreate the environment only if its definition has changed."""
    place = Path(".matrix", name)
    python, stamp = place / "bin" / "python", place / ".installed"
    made_from = max(Path(source).stat().st_mtime for source in ("pyproject.toml", ".ci/matrix.py"))
    if python.exists() and stamp.exists() and stamp.stat().st_mtime > made_from:
        return python
    print(f"Installing into {place}", flush=True)
    subprocess.run([base, "-m", "venv", "--clear", str(place)], check=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "-qq"]
    ours, *others = ENVIRONMENTS[name].packages
    subprocess.run([*pip, "--editable", ours, *others], check=True)
    stamp.touch()
    return python


def database_of(environment: Environment) -> str:
    """Return the environment's database; SQLite if there is no such server, except with CI=true."""
    port = PORTS.get(environment.database)
    if port is not None and os.environ.get("CI") != "true":
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            return "sqlite"
    return environment.database


def run(environment: Environment, python: Path, tests: list[str], database: str) -> int:
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *LEFT_OUT, *tests]
    environ = {**os.environ, "LOOPAI_TEST_DATABASE": database}
    with ExitStack() as stack:
        if tuple(map(int, environment.python.split("."))) < SERVER_FROM:
            environ["LOOPAI_CONTRACT_URL"] = stack.enter_context(local.running()).base_url
        return subprocess.run(command, env=environ, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(ENVIRONMENTS)}; all without any")
    parser.add_argument("--smoke", action="store_true", help="a short version, of the oldest environments only")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.name if name not in ENVIRONMENTS]
    if unknown:
        parser.error(f"no environment {', '.join(unknown)}: there are {', '.join(ENVIRONMENTS)}")
    outcomes = {}
    for name in chosen.name or ENVIRONMENTS:
        environment = ENVIRONMENTS[name]
        tests = environment.smoke if chosen.smoke else environment.tests
        if tests is None:
            if chosen.name:
                outcomes[name] = "has no short version"
            continue
        base = find(environment.python)
        if base is None:
            outcomes[name] = "not found"
            continue
        database = database_of(environment)
        instead = "" if database == environment.database else f", with SQLite as there is no {environment.database}"
        print(f"--- {name}", flush=True)
        python = install(name, base)
        started = time.monotonic()
        code = run(environment, python, tests, database)
        outcomes[name] = f"{'passed' if code == 0 else 'FAILED'} in {time.monotonic() - started:.0f} s{instead}"
    print("--- matrix")
    for name, outcome in outcomes.items():
        print(f"{name:12} {outcome}")
    none_ran = not any(outcome.startswith(("passed", "FAILED")) for outcome in outcomes.values())
    failed = any(outcome.startswith("FAILED") for outcome in outcomes.values())
    return 1 if failed or (none_ran and os.environ.get("CI") == "true") else 0


if __name__ == "__main__":
    sys.exit(main())
